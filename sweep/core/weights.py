"""A pool as one matrix (members, entries), with the role of every tensor; and how linear merges are made of it.

Columns are first the learnable parameters, then running statistics, each in the order of the state dict, so that
merging learnable parameters is arithmetic on one contiguous slab. Counters stay out: they come from the first member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple, TypeAlias

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


class TensorCombination(Tensor):
    """Return type of methods whose result is, tensor by tensor, a linear combination of members (and base).

    The coefficients of a tensor depend on its name, role and number of axes alone. The engine calls the method on
    coordinates under a layout in which each tensor has one entry per member, and gets the coefficients of all tensors.
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
    def is_learnable(self) -> NDArray[np.bool_]:
        """Which tensors are learnable, not running statistics, (tensors,)."""
        return np.array([entry.role in TRAINABLE_ROLES for entry in self.entries])

    @cached_property
    def head(self) -> tuple[TensorSpec, TensorSpec | None]:
        """Weight and bias of the head."""
        weight, *bias = (e for e in self.entries if e.role == "head")
        return weight, bias[0] if bias else None


def tensor_basis(layout: ParameterLayout, count: int, *, has_base: bool) -> dict[str, Any]:
    """The members and the base of a TensorCombination as unit vectors, and the layout of these.

    Each tensor has one entry per member and one for the base; names, roles and numbers of axes are as in `layout`.
    """
    entries = []
    for place, entry in enumerate(layout.entries):
        shape = (count + 1, *(1 for _ in entry.shape[1:]))
        entries.append(TensorSpec(entry.name, shape, entry.role, place * (count + 1)))
    basis = torch.eye(count + 1, dtype=torch.float64).tile(1, len(entries))
    own = ParameterLayout(tuple(entries), layout.counters, layout.tied)
    return {"members": basis[:-1], "base": basis[-1] if has_base else None, "layout": own}


class CoefficientSegment(NamedTuple):
    """A range of columns with the same coefficients."""

    start: int
    stop: int
    rows: tuple[int, ...]
    coefficients: tuple[float, ...]


MergeCoefficients: TypeAlias = tuple[CoefficientSegment, ...]
"""A linear merge, segment by segment. Equal values on one matrix mean equal weights, so it is a cache key."""


def merge_coefficients(
    layout: ParameterLayout, rows: Sequence[int], coefficients: Sequence[float] | Tensor, factors: Tensor
) -> MergeCoefficients:
    """The merge Σ coefficient × factor × member per tensor; running statistics take convex weights.

    `coefficients` is (members,), or (members, tensors of the layout) where they differ; `factors` is the latter.
    """
    given = np.asarray(coefficients, dtype=np.float64)
    if given.ndim == 1:
        learnable = given[:, None]
        statistics = np.array(to_convex_weights(given.tolist()))[:, None]
    else:
        learnable = given
        statistics = np.array([to_convex_weights(column) for column in given.T.tolist()]).T
    weights = np.where(layout.is_learnable, learnable, statistics) * factors.numpy()
    starts = [0, *(np.flatnonzero((weights[:, 1:] != weights[:, :-1]).any(0)) + 1).tolist()]
    segments = []
    for first, last, column in zip(starts, [*starts[1:], len(layout.entries)], weights.T[starts].tolist(), strict=True):
        used = [(row, weight) for row, weight in zip(rows, column, strict=True) if weight]
        terms = tuple(row for row, _ in used), tuple(weight for _, weight in used)
        segments.append(CoefficientSegment(layout.entries[first].offset, layout.entries[last - 1].stop, *terms))
    return tuple(segments)


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
