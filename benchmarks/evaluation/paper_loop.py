"""The engine beside the published script's way: per pass a copy, `load_state_dict` and a loader; nothing kept.

    python -m benchmarks.evaluation.paper_loop [repetitions] [PREFIX ...]

Ten cnns at 32x32, 400 test and 200 validation images: every item of the script (arXiv 2411.09263), unscaled and with
the members times 100 that it magnifies, for its nested prefixes. Both evaluate in evaluation mode, search over scaled
members, and must agree. The loader's images are tensors in memory: the script's, transformed one by one, take longer.
"""

from __future__ import annotations

import copy
import hashlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.common import METRICS, command, ratios, timed, with_range
from sweep.config.document import parse
from sweep.config.loader import check
from sweep.config.recipe import Recipe
from sweep.core.dataset import load_dataset
from sweep.core.registry import get_plugin
from sweep.evaluation.block import BlockRunner
from sweep.evaluation.engine import PoolEngine, make_engine
from sweep.evaluation.pool_weights import PoolWeights
from sweep.model.build import build
from sweep.model.runtime import setup_worker
from sweep.model.split import Batching, to_device
from sweep.plan.candidates import Candidate
from sweep.plan.work import CandidateWork
from sweep.status.state import load_state
from sweep.training.trainer import train

MEMBERS = 10
CLASSES = 10
THREADS = 2
NOISE = 0.5
SWEEP = """
name: paper
dataset: {arrays: {file: FOLDER/images.npz, mean: [0.3053], std: [0.3762]}}
populations: [{checkpoints: "FOLDER/member*.pt", architecture: cnn}]
subsets: {prefixes: PREFIXES}
methods: &all
  - uniform_soup
  - greedy_halving
  - greedy_indexed
  - &chosen {greedy_ensemble: {space: [logits, features]}}
  - logit_average
  - &features {feature_average: {head: [first, average]}}
grids:
  - scalings: [none, {magnify: {factor: 100, members: [all, first]}}]
  - {methods: uniform_soup, scalings: {magnify: {factor: 100, members: all_but_first}}}
  - {methods: [greedy_halving, greedy_indexed], scalings: {magnify: {factor: 100, members: all_but_last}}}
  - {methods: [*chosen, logit_average, *features], scalings: {magnify: {factor: 100, members: last}}}
execution: {mlflow: false, workers: 2, storage: FOLDER/runs}
"""
State = dict[str, Tensor]


class SimpleCNN(nn.Module):
    """The published network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.fc1 = nn.Linear(128 * 4 * 4, 256)
        self.fc2 = nn.Linear(256, CLASSES)
        self.pool = nn.MaxPool2d(2, 2)
        self.dropout = nn.Dropout(0.5)

    def features(self, x: Tensor) -> Tensor:
        """What reaches the head."""
        for layer in (self.conv1, self.conv2, self.conv3):
            x = self.pool(torch.relu(layer(x)))
        features: Tensor = self.dropout(torch.relu(self.fc1(x.flatten(1))))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """(examples, 3, 32, 32) -> (examples, classes)."""
        logits: Tensor = self.fc2(self.features(x))
        return logits


class Loop:
    """The script's functions, which keep nothing; `images` counts what is pushed, `distinct` what had to be."""

    def __init__(self, states: Sequence[State], splits: dict[str, tuple[Tensor, Tensor]], *, counting: bool) -> None:
        self.states = states
        self.splits = splits
        self.counting = counting
        self.template = SimpleCNN()
        self.images = 0
        self.distinct: dict[tuple[str, str], int] = {}

    @torch.no_grad()
    def outputs(self, state: State, split: str, *, features: bool = False) -> Tensor:
        """Logits or features of a copy of the model with these weights."""
        images, labels = self.splits[split]
        if self.counting:
            whole = hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()
            self.distinct[whole, split] = len(images)
        self.images += len(images)
        model = copy.deepcopy(self.template)
        model.load_state_dict(state)
        call = model.eval().features if features else model.eval()
        return torch.cat([call(batch) for batch, _ in DataLoader(TensorDataset(images, labels), batch_size=64)])

    def score(self, state: State) -> float:
        """Validation accuracy."""
        return float((self.outputs(state, "validation").argmax(1) == self.splits["validation"][1]).double().mean())

    def accuracy(self, candidate: Candidate) -> float:
        """Test accuracy of one item."""
        states = self.scaled(candidate)
        logits = self.logits(candidate.method.name, candidate.method.settings, states)
        return float((logits.argmax(1) == self.splits["test"][1]).double().mean())

    def scaled(self, candidate: Candidate) -> list[State]:
        """The members of its prefix, some of them magnified."""
        states = [copy.deepcopy(self.states[index]) for index in candidate.subset]
        if candidate.scaling.name == "none":
            return states
        which = {"all": slice(None), "first": slice(1), "last": slice(-1, None)}
        which |= {"all_but_first": slice(1, None), "all_but_last": slice(-1)}
        for state in states[which[candidate.scaling.settings["members"]]]:
            for tensor in state.values():
                tensor *= candidate.scaling.settings["factor"]
        return states

    def logits(self, method: str, settings: dict[str, str], states: list[State]) -> Tensor:
        """What an item says of the test images."""
        merged: dict[str, Callable[[], State]] = {
            "single": lambda: states[0],
            "uniform_soup": lambda: joined(states, [1 / len(states)] * len(states)),
            "greedy_halving": lambda: self.halving(states),
            "greedy_indexed": lambda: self.indexed(states)[0],
        }
        if method in merged:
            return self.outputs(merged[method](), "test")
        if method == "greedy_ensemble":
            states = self.indexed(states)[1]
        if method == "logit_average" or settings.get("space") == "logits":
            return torch.stack([self.outputs(state, "test") for state in states]).mean(0)
        features = torch.stack([self.outputs(state, "test", features=True) for state in states]).mean(0)
        heads = states[:1] if settings.get("head") == "first" else states
        weight, bias = (torch.stack([state[f"fc2.{part}"] for state in heads]).mean(0) for part in ("weight", "bias"))
        return features @ weight.T + bias

    def halving(self, states: list[State]) -> State:
        """The script's `greedy_soup`."""
        scores = [self.score(state) for state in states]
        best = max(scores)
        soup = states[scores.index(best)]
        for state in states:
            trial = joined([soup, state], [0.5, 0.5])
            score = self.score(trial)
            if score > best:
                soup = trial
                best = score
        return soup

    def indexed(self, states: list[State]) -> tuple[State, list[State]]:
        """The script's `greedy_soup_devideLen`, and the members that it accepts."""
        soup = states[0]
        accepted = states[:1]
        best = self.score(states[0])
        for index, state in enumerate(states[1:], 1):
            trial = joined([soup, state], [index / (index + 1), 1 / (index + 1)])
            score = self.score(trial)
            if score > best:
                soup = trial
                accepted = [*accepted, state]
                best = score
        return soup, accepted


def joined(states: Sequence[State], shares: Sequence[float]) -> State:
    """A weighted sum of state dicts."""
    pairs = list(zip(shares, states, strict=True))
    return {name: torch.stack([share * state[name] for share, state in pairs]).sum(0) for name in states[0]}


def make(folder: Path) -> None:
    """Real digits, a cnn trained on them for an epoch, and ten files of it with noise of their own on all weights."""
    digits = get_plugin("datasets", "digits").function(size=32, channels=3)
    parts = [digits.splits[name] for name in ("test", "validation", "train")]
    cuts = {"test": slice(400), "validation": slice(400, 600), "train": slice(600, None)}
    arrays: dict[str, Any] = {}
    for what in ("images", "labels"):
        whole = np.concatenate([getattr(part, what) for part in parts])
        arrays |= {f"{name}_{what}": whole[cut] for name, cut in cuts.items()}
    np.savez(folder / "images.npz", **arrays)
    dataset = get_plugin("datasets", "arrays").function(file=folder / "images.npz", mean=(0.3053,), std=(0.3762,))
    splits = {name: to_device(dataset, name, torch.device("cpu")) for name in ("train", "validation")}
    start = train(new_model(), splits, Recipe(epochs=1, batch_size=64, lr=0.05), 0, epochs=1).state
    random = torch.Generator().manual_seed(0)
    for member in range(MEMBERS):
        noisy = {name: x + NOISE * x.std() * torch.randn(x.shape, generator=random) for name, x in start.items()}
        torch.save(noisy, folder / f"member{member}.pt")


def new_model() -> nn.Module:
    """The engine's cnn."""
    return build(get_plugin("architectures", "cnn").function, (CLASSES, 3, 32), 0)


def compare(folder: Path, prefixes: list[int], repetitions: int) -> None:
    """Both ways in turn on one list of items; then the same as commands, with all that they need to begin."""
    text = SWEEP.replace("PREFIXES", str(prefixes)).replace("FOLDER", str(folder))
    (folder / "paper.yaml").write_text(text)
    plan = load_state(check(parse(text, "paper.yaml"))).plan
    items = [c for c in plan.candidates if c.method.name != "single" or c.scaling.name == "none"]
    pool = plan.pools[0]
    states = [torch.load(folder / f"member{index}.pt") for index in range(MEMBERS)]
    dataset = load_dataset(pool.population.dataset)
    weights = PoolWeights.from_states(states, None, new_model(), CLASSES)
    whole = {name: to_device(dataset, name, torch.device("cpu")) for name in ("test", "validation")}
    splits = {name: (split.normalize(split.images[:]), split.labels) for name, split in whole.items()}

    def plainly(*, counting: bool) -> tuple[Loop, list[float]]:
        loop = Loop(states, splits, counting=counting)
        return loop, [loop.accuracy(candidate) for candidate in items]

    def ours() -> tuple[PoolEngine, list[float]]:
        pool_engine = make_engine(pool, weights, dataset, "cpu", Batching(128))
        rows = BlockRunner(pool_engine, pool, "paper", METRICS).run(
            CandidateWork([(candidate, ("test",)) for candidate in items])
        )
        return pool_engine, [row["accuracy"] for row in rows.candidates]

    loop, expected = plainly(counting=True)
    pool_engine, found = ours()
    wrong = [c for c, a, b in zip(items, expected, found, strict=True) if abs(a - b) > 1e-9]
    assert not wrong, f"the two ways disagree on {len(wrong)} items, at first {wrong[0]}"
    necessary = sum(loop.distinct.values())
    assert pool_engine.forward_passes <= necessary, (
        f"{pool_engine.forward_passes:,} images pushed, {necessary:,} are necessary"
    )
    rounds = [(timed(lambda: plainly(counting=False))[0], timed(ours)[0]) for _ in range(repetitions)]
    plain, engine = zip(*rounds, strict=True)
    print(f"\n{len(items)} items, prefixes {prefixes}, {THREADS} threads, the same accuracies")
    print(f"published way  {with_range(plain)} s   {loop.images:,} images pushed, {necessary:,} of them necessary")
    print(f"engine         {with_range(engine)} s   {pool_engine.forward_passes:,} images pushed")
    print(f"ratio          {ratios(plain, engine)}", flush=True)
    whole_commands(folder, plain)


def whole_commands(folder: Path, plain: Sequence[float]) -> None:
    """The same with all that each way needs to begin."""
    python = sys.executable
    calls = range(len(plain))
    imports = [command([python, "-c", "import torch, torchvision"], folder)[0] for _ in calls]
    runs = [command([python, "-m", "sweep", "run", "paper.yaml", f"name=run{i}"], folder)[0] for i in calls]
    print(f"imports of the published way   {with_range(imports)} s")
    print(f"the whole command `sweep run`  {with_range(runs)} s, with imports, Ray, 2 workers and all tables")
    print(f"ratio with start-up            {ratios([sum(pair) for pair in zip(plain, imports, strict=True)], runs)}")


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    setup_worker(THREADS, 0)  # as a worker of a sweep does; the published way gains by it, too
    with tempfile.TemporaryDirectory() as place:
        make(Path(place))
        compare(Path(place), numbers[1:] or [2, 3, 5, 7, 10], numbers[0] if numbers else 5)
