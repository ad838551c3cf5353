"""A pool as one matrix (members, entries), with the role of every tensor; and how linear merges are made of it.

Columns are first the learnable parameters, then running statistics, each in the order of the state dict, so that
merging learnable parameters is arithmetic on one contiguous slab. Counters stay out: they come from the first member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple, TypeAlias

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray
from torch import Tensor

Probability = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]


@dataclass(frozen=True)
class ExactCount:
    """How many members a method takes, where it is not any number."""

    count: int


Members: TypeAlias = Tensor  # (members, parameters)
OneMember = Annotated[Tensor, ExactCount(1)]  # (1, parameters)
TwoMembers = Annotated[Tensor, ExactCount(2)]  # (2, parameters)
ThreeMembers = Annotated[Tensor, ExactCount(3)]  # (3, parameters)
Weights: TypeAlias = Tensor  # (parameters,)


class LinearCombination(Tensor):
    """Return type of methods whose result is a linear combination of members (and base), (parameters,).

    Its coefficients do not depend on the members' entries, except through `score`. The engine then calls the method on
    coordinates (rows of the identity matrix) and gets the coefficients, so that equal merges are evaluated once.
    """


class ScaleFactors(Tensor):
    """Return type of scalings: a factor per member and tensor, (members, tensors)."""


class Heads(NamedTuple):
    """The last linear layers of some members."""

    weight: Tensor  # (members, classes, features)
    bias: Tensor  # (members, classes)


TRAINABLE_ROLES = ("weight", "bias", "norm", "head")


class TensorSpec(NamedTuple):
    """One tensor of the state dict and its columns in the matrix."""

    name: str
    shape: tuple[int, ...]
    role: str
    offset: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return torch.Size(self.shape).numel()

    @property
    def stop(self) -> int:
        """First column after this tensor's."""
        return self.offset + self.size


@dataclass(frozen=True)
class ParameterLayout:
    """Where each float tensor of an architecture lies in a row, and which names are tied or counters."""

    entries: tuple[TensorSpec, ...]
    counters: tuple[str, ...]
    tied: tuple[tuple[str, str], ...]  # (name, name of the tensor it is)

    @cached_property
    def n_parameters(self) -> int:
        """Learnable entries, tied tensors once: the first columns."""
        return max((e.stop for e in self.entries if e.role in TRAINABLE_ROLES), default=0)

    @cached_property
    def n_entries(self) -> int:
        """All columns."""
        return max((e.stop for e in self.entries), default=0)

    @cached_property
    def role_changes(self) -> NDArray[np.bool_]:
        """Between which neighbours in the layout learnable tensors turn to running statistics, or back."""
        learnable = np.array([entry.role in TRAINABLE_ROLES for entry in self.entries])
        turns: NDArray[np.bool_] = learnable[1:] != learnable[:-1]
        return turns

    @cached_property
    def head(self) -> tuple[TensorSpec, TensorSpec | None]:
        """Weight and bias of the head."""
        weight, *bias = (e for e in self.entries if e.role == "head")
        return weight, bias[0] if bias else None


class CoefficientSegment(NamedTuple):
    """A range of columns with the same coefficients."""

    start: int
    stop: int
    rows: tuple[int, ...]
    coefficients: tuple[float, ...]


MergeCoefficients: TypeAlias = tuple[CoefficientSegment, ...]
"""A linear merge, segment by segment. Equal values on one matrix mean equal weights, so it is a cache key."""


def merge_coefficients(
    layout: ParameterLayout, rows: Sequence[int], coefficients: Sequence[float], factors: Tensor
) -> MergeCoefficients:
    """The merge Σ coefficient × factor × member per tensor; running statistics take convex weights.

    `factors` is (members, tensors of the layout).
    """
    learnable = tuple(coefficients)
    statistics = to_convex_weights(coefficients)
    segments: list[CoefficientSegment] = []
    starts, columns = _runs(layout, factors)
    stops = [*starts[1:], len(layout.entries)]
    for first, last, column in zip(starts, stops, columns, strict=True):
        entry = layout.entries[first]
        shares = learnable if entry.role in TRAINABLE_ROLES else statistics
        weights = [share * factor for share, factor in zip(shares, column, strict=True)]
        used = [(row, weight) for row, weight in zip(rows, weights, strict=True) if weight]
        terms = tuple(row for row, _ in used), tuple(weight for _, weight in used)
        stop = layout.entries[last - 1].stop
        if segments and (segments[-1].rows, segments[-1].coefficients) == terms:
            segments[-1] = segments[-1]._replace(stop=stop)
        else:
            segments.append(CoefficientSegment(entry.offset, stop, *terms))
    return tuple(segments)


def _runs(layout: ParameterLayout, factors: Tensor) -> tuple[list[int], list[list[float]]]:
    """First tensors of runs with equal factors and role, as positions in the layout, and the factors of each run."""
    values = factors.numpy()
    changes = (values[:, 1:] != values[:, :-1]).any(0) | layout.role_changes
    starts = [0, *(np.flatnonzero(changes) + 1).tolist()]
    return starts, values.T[starts].tolist()


def to_convex_weights(coefficients: Sequence[float]) -> tuple[float, ...]:
    """Coefficients with negative ones set to zero, scaled to sum 1; equal weights if all are zero."""
    positive = [max(c, 0.0) for c in coefficients]
    total = sum(positive)
    return tuple(c / total if total else 1 / len(positive) for c in positive)


_CHUNK = 1 << 16  # floats: source and target of one addition stay in the second-level cache


def materialize(matrix: Tensor, merge: MergeCoefficients, out: Tensor) -> Tensor:
    """Write the merge into `out` (entries,), adding rows in order, so that the pool size does not change the bits."""
    for start, stop, rows, coefficients in merge:
        step = _CHUNK if out.device.type == "cpu" else max(stop - start, 1)
        for left in range(start, stop, step):
            piece = slice(left, min(left + step, stop))
            target = out[piece]
            if not rows:
                target.zero_()
                continue
            torch.mul(matrix[rows[0], piece], coefficients[0], out=target)
            for row, coefficient in zip(rows[1:], coefficients[1:], strict=True):
                target.add_(matrix[row, piece], alpha=coefficient)
    return out
