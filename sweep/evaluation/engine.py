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

from sweep.core.choice import PluginConfig
from sweep.core.dataset import Dataset
from sweep.core.ids import canonical_json, derive_seed
from sweep.core.weights import LinearMerge, ParameterLayout, linear_merge, materialize
from sweep.evaluation.aligner import Aligner
from sweep.evaluation.pool_weights import PoolWeights
from sweep.evaluation.switches import NO_SWITCHES, ProtocolContext, apply_to_model, apply_to_split, split_switches
from sweep.model.build import build, build_on_meta
from sweep.model.forward import Outputs, forward_split
from sweep.model.layout import bind_flat, find_head, make_layout
from sweep.model.metrics import compute_metrics
from sweep.model.split import Batching, DeviceSplit, to_device
from sweep.plan.pools import Pool

_KEPT_BYTES = 1 << 29


class SubsetWeights(NamedTuple):
    """The members of a subset as rows of a matrix, and the key that tells this matrix from others."""

    key: tuple[object, ...]
    matrix: Tensor  # (rows, entries)
    rows: tuple[int, ...]  # of the subset's members
    base: int | None  # row of the shared start


class CachedOutputs(NamedTuple):
    """Outputs of some weights, with their head where features were asked for."""

    logits: Tensor
    features: Tensor | None
    head: tuple[Tensor, Tensor] | None  # weight (classes, features), bias (classes,)


@dataclass
class PoolEngine:
    """One pool on one device, with everything that candidates of it have in common."""

    pool: PoolWeights
    architecture: PluginConfig
    dataset: Dataset
    device: torch.device
    batching: Batching
    forward_passes: int = 0
    repair_cache: OrderedDict[tuple[object, ...], Any] = field(default_factory=OrderedDict)  # of members, by repairs
    _splits: dict[tuple[object, ...], DeviceSplit] = field(default_factory=dict)
    _kept: OrderedDict[tuple[object, ...], CachedOutputs] = field(default_factory=OrderedDict)
    _kept_bytes: int = 0
    _factors: dict[tuple[PluginConfig, int], Tensor] = field(default_factory=dict)
    _singles: dict[tuple[int, bytes], LinearMerge] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.classes = len(self.dataset.classes)
        shape = (self.classes, self.dataset.channels, self.dataset.size)
        self.model = build(self.architecture.plugin.function, shape, 0, **self.architecture.settings)
        self.layout: ParameterLayout = make_layout(self.model, self.classes)
        self.head = self.model.get_submodule(find_head(self.model, self.classes))
        self.flat_weights = bind_flat(self.model, self.layout, self.device)
        # numpy refuses to write to shared memory and torch does not: nothing below may write to the matrix.
        self.matrix = (
            torch.tensor(self.pool.matrix, device=self.device) if self.device.type != "cpu" else _view(self.pool.matrix)
        )
        paper = partial(build_on_meta, self.architecture.plugin.function, shape, self.architecture.settings)
        self.aligner = Aligner(self.model, paper, self.layout, self.matrix, shape[1:])

    @property
    def base(self) -> int | None:
        """Row of the shared start in the matrix."""
        return len(self.matrix) - 1 if self.pool.has_start else None

    def split(self, name: str, under: ProtocolContext = NO_SWITCHES) -> DeviceSplit:
        """A split on the device, brought there once; under conditions, as they make it."""
        key = (name, split_switches(under))
        if key not in self._splits:
            own = apply_to_split(self.split(name), self.dataset, under) if split_switches(under) else None
            self._splits[key] = own or to_device(self.dataset, name, self.device)
        return self._splits[key]

    def factors(self, scaling: PluginConfig, count: int) -> Tensor:
        """A factor per member of a subset and tensor, for scalings that do not look at weights: made once."""
        key = (scaling, count)
        if key not in self._factors:
            made = scaling.call(count=count, layout=self.layout)
            self._factors[key] = made.as_subclass(Tensor)
        return self._factors[key]

    def one_member_merge(self, row: int, factors: Tensor) -> LinearMerge:
        """One row of a matrix with a factor per tensor, as a blend: made once, for ensembles ask for few very often."""
        key = (row, factors.numpy().tobytes())
        if key not in self._singles:
            self._singles[key] = linear_merge(self.layout, (row,), [1.0], factors[None])
        return self._singles[key]

    def load(self, source: SubsetWeights, merge: LinearMerge) -> None:
        """Load a merge into the model."""
        materialize(source.matrix, merge, self.flat_weights)

    def forward(self, split: str, *, features: bool, under: ProtocolContext = NO_SWITCHES, seed: int = 0) -> Outputs:
        """Outputs of whatever weights are loaded; the seed is for what is random under conditions."""
        around = apply_to_model(self.model, under.switches, seed) if under.switches else None
        head = self.head if features else None
        spoken = forward_split(self.model, self.split(split, under), self.batching, head, around)
        self.forward_passes += len(spoken.logits)
        return spoken

    def outputs(
        self, source: SubsetWeights, merge: LinearMerge, split: str, under: ProtocolContext = NO_SWITCHES
    ) -> CachedOutputs:
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
        seed = (
            derive_seed(under.pool_id, split, canonical_json([_to_engine_layout(source.key), merge]))
            if under.switches
            else 0
        )
        spoken = self.forward(split, features=features, under=under, seed=seed)
        head = self._head(spoken.logits.dtype) if features else None
        return self._remember(key, CachedOutputs(spoken.logits, spoken.features, head))

    def accuracy(self, source: SubsetWeights, merge: LinearMerge, under: ProtocolContext = NO_SWITCHES) -> float:
        """Validation accuracy of a merge, for searches."""
        return self.accuracy_of(self.outputs(source, merge, "validation", under).logits, under)

    def accuracy_of(self, logits: Tensor, under: ProtocolContext = NO_SWITCHES) -> float:
        """Accuracy of outputs on the validation split; below any other where they are not finite."""
        if not bool(torch.isfinite(logits).all()):
            return float("-inf")
        labels = self.split("validation", under).labels[: len(logits)]
        return compute_metrics(logits, labels, ("accuracy",))["accuracy"]

    def _head(self, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight and bias of the head as loaded, in a precision; a head without bias has zeros."""
        weight, bias = self.layout.head
        loaded = self.flat_weights[weight.offset : weight.stop].view(weight.shape).clone()
        shift = (
            torch.zeros(weight.shape[0], device=self.device)
            if bias is None
            else self.flat_weights[bias.offset : bias.stop].clone()
        )
        return loaded.to(kind), shift.to(kind)

    def _remember(self, key: tuple[object, ...], said: CachedOutputs) -> CachedOutputs:
        """Keep outputs, the longest unasked dropped beyond a bound."""
        self._kept[key] = said
        self._kept_bytes += _size(said)
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= _size(self._kept.popitem(last=False)[1])
        return said


def _to_engine_layout(key: tuple[object, ...]) -> list[object]:
    """What tells a matrix from others, as it stands in ids."""
    return [each.id_content if isinstance(each, PluginConfig) else each for each in key]


def _size(said: CachedOutputs) -> int:
    return said.logits.nbytes + (said.features.nbytes if said.features is not None else 0)


def _view(matrix: NDArray[np.float32]) -> Tensor:
    """The shared matrix without a copy; torch warns that it must not be written to, and nothing here does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(matrix)


def make_engine(pool: Pool, weights: PoolWeights, dataset: Dataset, device: str, batching: Batching) -> PoolEngine:
    """The bench on which candidates of a pool are evaluated."""
    return PoolEngine(weights, pool.population.architecture, dataset, torch.device(device), batching)
