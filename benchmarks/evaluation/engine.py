"""The engine beside the plain way: a state dict, a model and a loader per candidate, every ensemble from scratch.

    python -m benchmarks.evaluation.engine [repetitions]

Both evaluate the same candidates of one pool in one process with the same threads, in turn, and must agree.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sweep.plan.candidates import Candidate
from sweep.plan.work import CandidateWork
from tests.helpers.engine import Trained, trained

METHODS = ("single", "uniform_soup", "logit_average")


@torch.no_grad()
def plain_logits(model: nn.Module, state: dict[str, Tensor], loader: DataLoader[tuple[Tensor, ...]]) -> Tensor:
    """One forward pass of one state dict, as a script would do it."""
    own = copy.deepcopy(model)
    own.load_state_dict(state)
    return torch.cat([own.eval()(images) for images, _ in loader])


def plain_accuracies(pool: Trained, candidates: list[Candidate]) -> list[float]:
    """A loop over candidates that keeps nothing."""
    images, labels = pool.test_split()
    loader = DataLoader(TensorDataset(images, labels), batch_size=64)
    model = pool.model()
    accuracies = []
    for candidate in candidates:
        states = [pool.states[index] for index in candidate.subset]
        if candidate.method.name == "logit_average":
            logits = torch.stack([plain_logits(model, state, loader) for state in states]).mean(0)
        else:
            mean = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
            logits = plain_logits(model, mean, loader)
        accuracies.append(float((logits.argmax(1) == labels).double().mean()))
    return accuracies


def engine_accuracies(pool: Trained, candidates: list[Candidate]) -> list[float]:
    """The same through the engine, from nothing kept, with all four metrics and rows."""
    rows = pool.evaluator().run(CandidateWork([(candidate, ("test",)) for candidate in candidates]))
    return [row["accuracy"] for row in rows.candidates]


def seconds(work: Callable[[], list[float]]) -> tuple[float, list[float]]:
    """Wall seconds, and what came out."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def main(repetitions: int) -> None:
    """Print both medians and their ratio."""
    torch.set_num_threads(2)
    pool = trained("{cnn: {width: 16}}", members=8, size=16)
    candidates = [c for c in pool.plan.candidates if c.method.name in METHODS]
    plain = []
    ours = []
    for _ in range(repetitions):
        first, expected = seconds(lambda: plain_accuracies(pool, candidates))
        second, found = seconds(lambda: engine_accuracies(pool, candidates))
        assert all(abs(a - b) < 1e-9 for a, b in zip(expected, found, strict=True)), "the two ways disagree"
        plain.append(first)
        ours.append(second)
    print(f"{len(candidates)} candidates of 8 cnns (width 16, 16x16), 360 test images, 2 threads, same accuracies")
    print(f"plain loop   {median(plain):7.2f} s ({min(plain):.2f} to {max(plain):.2f})")
    print(f"engine       {median(ours):7.2f} s ({min(ours):.2f} to {max(ours):.2f})")
    print(f"ratio        {median(plain) / median(ours):7.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
