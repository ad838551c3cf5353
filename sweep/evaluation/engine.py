"""A pool on a device: its members, one model that any weights are loaded into, and outputs computed once and kept."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweep.core.choice import Choice
from sweep.core.dataset import Dataset
from sweep.core.ids import canonical, derive_seed
from sweep.core.weights import Blend, Layout, blend, combine
from sweep.evaluation.aligner import Aligner
from sweep.evaluation.pool_weights import PoolWeights
from sweep.evaluation.switches import PLAIN, Conditions, audited, of_split, passing
from sweep.model.build import build, without_memory
from sweep.model.forward import Outputs, outputs
from sweep.model.layout import bind, find_head, layout_of
from sweep.model.metrics import measure
from sweep.model.split import Batching, DeviceSplit, to_device
from sweep.plan.pools import Pool

_KEPT_BYTES = 1 << 29


class Source(NamedTuple):
    """The members of a subset as rows of a matrix, and the key that tells this matrix from others."""

    key: tuple[object, ...]
    matrix: Tensor  # (rows, entries)
    rows: tuple[int, ...]  # of the subset's members
    base: int | None  # row of the shared start


class Said(NamedTuple):
    """Outputs of some weights, with their head where features were asked for."""

    logits: Tensor
    features: Tensor | None
    head: tuple[Tensor, Tensor] | None  # weight (classes, features), bias (classes,)


@dataclass
class Bench:
    """One pool on one device, with everything that candidates of it have in common."""

    pool: PoolWeights
    architecture: Choice
    dataset: Dataset
    device: torch.device
    batching: Batching
    forward_passes: int = 0
    measured: OrderedDict[tuple[object, ...], Any] = field(default_factory=OrderedDict)  # of members, by repairs
    _splits: dict[tuple[object, ...], DeviceSplit] = field(default_factory=dict)
    _kept: OrderedDict[tuple[object, ...], Said] = field(default_factory=OrderedDict)
    _kept_bytes: int = 0
    _factors: dict[tuple[Choice, int], Tensor] = field(default_factory=dict)
    _singles: dict[tuple[int, bytes], Blend] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.classes = len(self.dataset.classes)
        shape = (self.classes, self.dataset.channels, self.dataset.size)
        self.model = build(self.architecture.entry.function, shape, 0, **self.architecture.settings)
        self.layout: Layout = layout_of(self.model, self.classes)
        self.head = self.model.get_submodule(find_head(self.model, self.classes))
        self.row = bind(self.model, self.layout, self.device)
        # numpy refuses to write to shared memory and torch does not: nothing below may write to the matrix.
        self.matrix = (
            torch.tensor(self.pool.matrix, device=self.device) if self.device.type != "cpu" else _view(self.pool.matrix)
        )
        paper = partial(without_memory, self.architecture.entry.function, shape, self.architecture.settings)
        self.aligner = Aligner(self.model, paper, self.layout, self.matrix, shape[1:])

    @property
    def base(self) -> int | None:
        """Row of the shared start in the matrix."""
        return len(self.matrix) - 1 if self.pool.has_start else None

    def split(self, name: str, under: Conditions = PLAIN) -> DeviceSplit:
        """A split on the device, brought there once; under conditions, as they make it."""
        key = (name, of_split(under))
        if key not in self._splits:
            own = audited(self.split(name), self.dataset, under) if of_split(under) else None
            self._splits[key] = own or to_device(self.dataset, name, self.device)
        return self._splits[key]

    def factors(self, scaling: Choice, count: int) -> Tensor:
        """A factor per member of a subset and tensor, for scalings that do not look at weights: made once."""
        key = (scaling, count)
        if key not in self._factors:
            brought = {"count": count, "layout": self.layout}
            made = scaling.entry.function(*(brought[need] for need in scaling.entry.needs), **scaling.settings)
            self._factors[key] = made.as_subclass(Tensor)
        return self._factors[key]

    def single(self, row: int, factors: Tensor) -> Blend:
        """One row of a matrix with a factor per tensor, as a blend: made once, for ensembles ask for few very often."""
        key = (row, factors.numpy().tobytes())
        if key not in self._singles:
            self._singles[key] = blend(self.layout, (row,), [1.0], factors[None])
        return self._singles[key]

    def load(self, source: Source, merge: Blend) -> None:
        """Load a merge into the model."""
        combine(source.matrix, merge, self.row)

    def speak(self, split: str, *, features: bool, under: Conditions = PLAIN, seed: int = 0) -> Outputs:
        """Outputs of whatever weights are loaded; the seed is for what is random under conditions."""
        around = passing(self.model, under.switches, seed) if under.switches else None
        head = self.head if features else None
        spoken = outputs(self.model, self.split(split, under), self.batching, head, around)
        self.forward_passes += len(spoken.logits)
        return spoken

    def said(self, source: Source, merge: Blend, split: str, under: Conditions = PLAIN) -> Said:
        """Outputs of a merge: kept ones where these weights were asked before, whoever asked.

        Features come with those of one member, scaled or not, for ensembles will ask for them. What is random is
        so by these weights alone.
        """
        key = (source.key, merge, split, under.switches)
        features = all(len(segment.rows) == 1 for segment in merge)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self.load(source, merge)
        seed = derive_seed(under.pool_id, split, canonical([_written(source.key), merge])) if under.switches else 0
        spoken = self.speak(split, features=features, under=under, seed=seed)
        head = self._head(spoken.logits.dtype) if features else None
        return self._keep(key, Said(spoken.logits, spoken.features, head))

    def accuracy(self, source: Source, merge: Blend, under: Conditions = PLAIN) -> float:
        """Validation accuracy of a merge, for searches."""
        return self.accuracy_of(self.said(source, merge, "validation", under).logits, under)

    def accuracy_of(self, logits: Tensor, under: Conditions = PLAIN) -> float:
        """Accuracy of outputs on the validation split; below any other where they are not finite."""
        if not bool(torch.isfinite(logits).all()):
            return float("-inf")
        labels = self.split("validation", under).labels[: len(logits)]
        return measure(logits, labels, ("accuracy",))["accuracy"]

    def _head(self, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight and bias of the head as loaded, in a precision; a head without bias has zeros."""
        weight, bias = self.layout.head
        loaded = self.row[weight.offset : weight.stop].view(weight.shape).clone()
        shift = (
            torch.zeros(weight.shape[0], device=self.device)
            if bias is None
            else self.row[bias.offset : bias.stop].clone()
        )
        return loaded.to(kind), shift.to(kind)

    def _keep(self, key: tuple[object, ...], said: Said) -> Said:
        """Keep outputs, the longest unasked dropped beyond a bound."""
        self._kept[key] = said
        self._kept_bytes += _size(said)
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= _size(self._kept.popitem(last=False)[1])
        return said


def _written(key: tuple[object, ...]) -> list[object]:
    """What tells a matrix from others, as it stands in ids."""
    return [each.content if isinstance(each, Choice) else each for each in key]


def _size(said: Said) -> int:
    return said.logits.nbytes + (said.features.nbytes if said.features is not None else 0)


def _view(matrix: NDArray[np.float32]) -> Tensor:
    """The shared matrix without a copy; torch warns that it must not be written to, and nothing here does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(matrix)


def bench_of(pool: Pool, weights: PoolWeights, dataset: Dataset, device: str, batching: Batching) -> Bench:
    """The bench on which candidates of a pool are evaluated."""
    return Bench(weights, pool.population.architecture, dataset, torch.device(device), batching)
