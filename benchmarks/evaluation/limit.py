"""Merges in weight space through the engine beside a bare loop of the same forward passes at its best.

    python -m benchmarks.evaluation.limit [repetitions] [threads] [device]

The bare loop pushes normalised images through one network in inference mode, and does nothing else; of memory formats
and batch sizes it takes the best. The engine takes what `execution.eval_batch_size: auto` finds, and also merges,
loads, measures and makes rows. In turn, in one process.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.common import METRICS, bench, drawn, planned, ratios, timed, with_range
from sweep.evaluation.block import BlockRunner
from sweep.evaluation.engine import PoolEngine
from sweep.model.batching import tune_batch
from sweep.model.runtime import setup_worker
from sweep.model.split import SharedImages
from sweep.plan.planner import Plan
from sweep.plan.work import CandidateWork

NETWORKS = {"cnn": (2000, 8), "resnet18": (500, 4)}  # name -> test images, candidates
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
BATCHES = (64, 128, 256, 512, 2048)
SWEEP = """
name: limit
dataset: {synthetic: {examples: EXAMPLES, size: 32}}
populations: [{architecture: NETWORK, members: 8, start: scratch}]
subsets: {sizes: [2, 3, 5], per_size: 20}
methods: uniform_soup
execution: {mlflow: false}
"""


@torch.inference_mode()
def bare(model: nn.Module, batches: list[Tensor]) -> None:
    """The forward passes alone, waited for."""
    for images in batches:
        logits = model(images)
    logits[0, 0].item()


def bare_way(ours: PoolEngine, memory: torch.memory_format, batch: int) -> Callable[[], None]:
    """One candidate's forward passes with a memory format and batch size."""
    split = ours.split("test")
    model = deepcopy(ours.model).eval().to(memory_format=memory)
    batches = [split.normalize(images).contiguous(memory_format=memory) for images in _cut(split.images, batch)]
    return lambda: bare(model, batches)


def _cut(images: Tensor | SharedImages, batch: int) -> list[Tensor]:
    return [images[start : start + batch] for start in range(0, len(images), batch)]


def engine_way(plan: Plan, ours: PoolEngine, count: int) -> Callable[[int], None]:
    """Candidates that were not seen before, `count` of them for each call with another number."""
    candidates = [candidate for candidate in plan.candidates if candidate.method.name == "uniform_soup"]
    evaluator = BlockRunner(ours, plan.pools[0], "limit", METRICS)

    def run(number: int) -> None:
        chosen = itertools.islice(itertools.cycle(candidates), number * count, (number + 1) * count)
        before = ours.forward_passes
        rows = evaluator.run(CandidateWork([(candidate, ("test",)) for candidate in chosen]))
        assert ours.forward_passes - before == count * len(ours.split("test").labels), "outputs were kept"
        assert all(row["status"] == "ok" for row in rows.candidates)

    return run


def compare(network: str, repetitions: int, threads: int, device: str) -> None:
    """Print images per second of each bare way, of the engine, and their ratio."""
    examples, count = NETWORKS[network]
    plan = planned(SWEEP.replace("NETWORK", network).replace("EXAMPLES", str(5 * examples)))
    ours = bench(plan, drawn(plan), device)
    member = plan.pools[0].members[0]
    found = tune_batch(member.population.architecture, member.init_seed, ours.dataset, threads, device == "cuda")
    ours.batching = found.batching
    engine = engine_way(plan, ours, count)
    engine(0)
    ways = {(name, batch): bare_way(ours, FORMATS[name], batch) for name, batch in itertools.product(FORMATS, BATCHES)}
    first = {way: min(timed(run)[0] for _ in range(3)) for way, run in ways.items()}
    best = sorted(first, key=lambda way: first[way])[:3]
    rates: dict[object, list[float]] = {way: [] for way in [*best, "engine"]}
    for number in range(1, repetitions + 1):
        for way in best:
            rates[way].append(examples * count / timed(partial(several, ways[way], count))[0])
        rates["engine"].append(examples * count / timed(partial(engine, number))[0])
    about = f"{examples} test images of 32x32 on {device}, {threads} threads"
    print(f"\n{network}, {about}; bare, each format and batch (best of 3):")
    print("   ".join(f"{name} {batch}: {examples / seconds:,.0f}" for (name, batch), seconds in first.items()))
    print(f"measured for the engine: {found}")
    for way, each in rates.items():
        name = "engine" if isinstance(way, str) else "bare, {}, batch {}".format(*way)
        print(f"{name:32} {with_range(each, 0)} images/s")
    top = max(best, key=lambda way: median(rates[way]))
    print(f"{'engine beside the best bare way':32} {ratios(rates['engine'], rates[top])}", flush=True)


def several(run: Callable[[], None], count: int) -> None:
    """The same work a few times."""
    for _ in range(count):
        run()


def main(repetitions: int, threads: int, device: str) -> None:
    """Print the table of every network."""
    setup_worker(threads, device == "cuda")
    for network in NETWORKS:
        compare(network, repetitions, threads, device)


if __name__ == "__main__":
    given = [*sys.argv[1:], *("5", "1", "cpu")[len(sys.argv) - 1 :]]
    main(int(given[0]), int(given[1]), given[2])
