"""Tensors as matrices, and their singular value decompositions, for methods on directions of task vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sweep.core.weights import ParameterLayout
from sweep.plugins.methods._task_vectors import columns_of, learnable

_SINGLE_PRECISION = torch.finfo(torch.float32).eps
_SAME_DIRECTION = 1e-3
"""Singular value of concatenated unit vectors below which a direction repeats others."""


class Triplets(NamedTuple):
    """Singular triplets of a matrix (rows, columns)."""

    left: Tensor  # (rows, count)
    values: Tensor  # (count,)
    right: Tensor  # (count, columns)

    def first(self, count: int) -> Triplets:
        """The triplets of the largest singular values."""
        return Triplets(self.left[:, :count], self.values[:count], self.right[:count])


def merge_matrices(
    members: Tensor, base: Tensor, layout: ParameterLayout, scale: float, merge: Callable[[Tensor], Tensor]
) -> Tensor:
    """The base plus `scale` times merge(task matrices (members, rows, columns)) for each tensor, (parameters,).

    A kernel is a matrix (outputs, inputs × positions). Of tensors with one axis, or one row or column, the mean task
    vector is taken instead.
    """
    merged = base.clone()
    for entry in learnable(layout):
        columns = columns_of(entry)
        vectors = members[:, columns] - base[columns]
        rows = entry.shape[0] if len(entry.shape) > 1 else 1
        is_matrix = 1 < rows < entry.size
        moved = merge(vectors.view(len(members), rows, -1)).reshape(-1) if is_matrix else vectors.mean(0)
        merged[columns] += scale * moved
    return merged


def decompose(matrix: Tensor) -> Triplets:
    """The singular triplets above rounding: σ > longer side × ε of single precision × largest σ."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((values > max(matrix.shape) * _SINGLE_PRECISION * values[0]).sum())
    return Triplets(left, values, right).first(rank)


def partial_isometry(vectors: Tensor) -> Tensor:
    """The closest matrix with orthonormal directions, P Qᵀ of the singular vectors; repeated directions count once."""
    left, values, right = torch.linalg.svd(vectors, full_matrices=False)
    independent = values > _SAME_DIRECTION
    isometry: Tensor = left[:, independent] @ right[independent]
    return isometry


def concatenate(parts: list[Triplets]) -> Triplets:
    """Triplets one after the other."""
    left = torch.cat([part.left for part in parts], 1)
    values = torch.cat([part.values for part in parts])
    return Triplets(left, values, torch.cat([part.right for part in parts]))
