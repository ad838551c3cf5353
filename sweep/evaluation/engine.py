"""The engine of a pool on one device: its members, one model that any weights are loaded into, and cached outputs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sweep.core.choice import PluginConfig
from sweep.core.dataset import Dataset
from sweep.core.ids import canonical_json, derive_seed
from sweep.core.weights import MergeCoefficients, materialize, merge_coefficients
from sweep.evaluation.aligner import Aligner
from sweep.evaluation.cache import BoundedCache
from sweep.evaluation.pool_weights import PoolWeights
from sweep.evaluation.switches import NO_SWITCHES, ProtocolContext, apply_to_model, apply_to_split, split_switches
from sweep.model.build import build, build_on_meta
from sweep.model.forward import Outputs, forward_split
from sweep.model.layout import bind_flat, find_head, make_layout
from sweep.model.metrics import compute_metrics
from sweep.model.split import Batching, DeviceSplit, to_device
from sweep.plan.pools import Pool

_OUTPUT_BYTES = 1 << 29
_FACTOR_BYTES = 1 << 24
_MEMBER_SEGMENTS = 1 << 16  # about 20 MiB
_REPAIR_RESULTS = 128


class SubsetWeights(NamedTuple):
    """The members of a subset as rows of a matrix, and a key that identifies the matrix."""

    key: tuple[object, ...]
    matrix: Tensor  # (rows, entries)
    rows: tuple[int, ...]  # of the subset's members
    base: int | None  # row of the shared start


@dataclass
class PoolEngine:
    """One pool on one device, with everything that its candidates share.

    The model's tensors are views of `flat_weights`: writing there loads weights.
    """

    pool: PoolWeights
    architecture: PluginConfig
    dataset: Dataset
    device: torch.device
    batching: Batching
    forward_passes: int = 0
    """Examples that were passed through the model, by whatever part of the evaluation."""
    loads: int = 0
    """How often weights were loaded."""
    repair_cache: BoundedCache[tuple[object, ...], Any] = field(default_factory=partial(BoundedCache, _REPAIR_RESULTS))
    """What repairs measured of single members."""
    _splits: dict[tuple[object, ...], DeviceSplit] = field(default_factory=dict)
    _outputs: BoundedCache[tuple[object, ...], Outputs] = field(
        default_factory=lambda: BoundedCache(_OUTPUT_BYTES, _n_bytes)
    )
    _factors: BoundedCache[tuple[PluginConfig, int], Tensor] = field(
        default_factory=lambda: BoundedCache(_FACTOR_BYTES, lambda factors: factors.nbytes)
    )
    _members: BoundedCache[tuple[int, bytes], MergeCoefficients] = field(
        default_factory=lambda: BoundedCache(_MEMBER_SEGMENTS, len)
    )

    def __post_init__(self) -> None:
        self.classes = len(self.dataset.classes)
        shape = self.dataset.shape
        self.model = build(self.architecture.plugin.function, shape, 0, **self.architecture.settings)
        self.model.register_forward_pre_hook(self._count_examples)
        self.layout = make_layout(self.model, self.classes)
        head = self.model.get_submodule(find_head(self.model, self.classes))
        assert isinstance(head, nn.Linear)
        self.head = head
        self.flat_weights = bind_flat(self.model, self.layout, self.device)
        # numpy refuses to write to shared memory and torch does not: nothing below may write to the matrix.
        self.matrix = (
            torch.tensor(self.pool.matrix, device=self.device) if self.device.type != "cpu" else _view(self.pool.matrix)
        )
        meta_model = partial(build_on_meta, self.architecture.plugin.function, shape, self.architecture.settings)
        self.aligner = Aligner(self.model, meta_model, self.layout, self.matrix, shape[1:])

    @property
    def base(self) -> int | None:
        """Row of the shared start in the matrix."""
        return len(self.matrix) - 1 if self.pool.has_start else None

    def split(self, name: str, context: ProtocolContext = NO_SWITCHES) -> DeviceSplit:
        """A split on the device, as the switches of a protocol change it; copied there once."""
        key = (name, split_switches(context))
        if key not in self._splits:
            changed = apply_to_split(self.split(name), self.dataset, context) if split_switches(context) else None
            self._splits[key] = changed or to_device(self.dataset, name, self.device)
        return self._splits[key]

    def factors(self, scaling: PluginConfig, count: int) -> Tensor:
        """Factors (members, tensors) of a scaling that does not look at weights, for subsets of `count` members."""

        def make() -> Tensor:
            factors: Tensor = scaling.call(count=count, layout=self.layout).as_subclass(Tensor)
            return factors

        return self._factors.get_or_make((scaling, count), make)

    def one_member_merge(self, row: int, factors: Tensor) -> MergeCoefficients:
        """One row of a matrix times its factors (tensors,), as a merge; cached, since ensembles need few very often."""
        make = partial(merge_coefficients, self.layout, (row,), [1.0], factors[None])
        return self._members.get_or_make((row, factors.numpy().tobytes()), make)

    def load(self, weights: SubsetWeights, merge: MergeCoefficients) -> None:
        """Load a linear merge into the model."""
        self.loads += 1
        materialize(weights.matrix, merge, self.flat_weights)

    def load_member(self, index: int) -> None:
        """Load a member of the pool into the model, as it is."""
        self.loads += 1
        self.flat_weights.copy_(self.matrix[index])

    def forward(self, split: str, *, features: bool, context: ProtocolContext = NO_SWITCHES, seed: int = 0) -> Outputs:
        """Outputs of the loaded weights; the seed is for switches that draw random numbers."""
        switched = apply_to_model(self.model, context.switches, seed) if context.switches else None
        head = self.head if features else None
        return forward_split(self.model, self.split(split, context), self.batching, head, switched)

    def outputs(
        self, weights: SubsetWeights, merge: MergeCoefficients, split: str, context: ProtocolContext = NO_SWITCHES
    ) -> Outputs:
        """Outputs of a linear merge on a split, from the cache if the same weights were evaluated before.

        Features and head are included for single members, scaled or not, since ensembles need them. The seed of random
        switches depends on these weights alone.
        """
        key = (weights.key, merge, split, context.switches)
        return self._outputs.get_or_make(key, partial(self._compute_outputs, weights, merge, split, context))

    def _compute_outputs(
        self, weights: SubsetWeights, merge: MergeCoefficients, split: str, context: ProtocolContext
    ) -> Outputs:
        seed = 0
        if context.switches:
            seed = derive_seed(context.pool_id, split, canonical_json([_id_content(weights.key), merge]))
        self.load(weights, merge)
        features = all(len(segment.rows) == 1 for segment in merge)
        return self.forward(split, features=features, context=context, seed=seed)

    def accuracy(
        self, weights: SubsetWeights, merge: MergeCoefficients, context: ProtocolContext = NO_SWITCHES
    ) -> float:
        """Validation accuracy of a linear merge, for searches."""
        return self.validation_accuracy(self.outputs(weights, merge, "validation", context).logits, context)

    def validation_accuracy(self, logits: Tensor, context: ProtocolContext = NO_SWITCHES) -> float:
        """Accuracy of logits of the validation split; -inf where any is not finite."""
        if not bool(torch.isfinite(logits).all()):
            return float("-inf")
        labels = self.split("validation", context).labels[: len(logits)]
        return compute_metrics(logits, labels, ("accuracy",))["accuracy"]

    def _count_examples(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.forward_passes += len(inputs[0])


def _id_content(key: tuple[object, ...]) -> list[object]:
    """The key of a matrix as it enters seeds."""
    return [each.id_content if isinstance(each, PluginConfig) else each for each in key]


def _n_bytes(outputs: Outputs) -> int:
    return outputs.logits.nbytes + (outputs.features.nbytes if outputs.features is not None else 0)


def _view(matrix: NDArray[np.float32]) -> Tensor:
    """The shared matrix without a copy; torch warns that it must not be written to, and nothing here does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(matrix)


def make_engine(pool: Pool, weights: PoolWeights, dataset: Dataset, device: str, batching: Batching) -> PoolEngine:
    """The engine that evaluates the candidates of a pool."""
    return PoolEngine(weights, pool.population.architecture, dataset, torch.device(device), batching)
