"""Isotropic merging."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, Probability, Weights
from sweep.plugins.methods._matrices import concatenate, decompose, merge_matrices, partial_isometry
from sweep.plugins.methods._task_vectors import Scale

CITES = ("marczak2025isotropic",)
EXEMPT = {"copies": "all directions of the summed task matrix get the same singular value"}


def iso(
    members: Members,
    base: Weights,
    layout: ParameterLayout,
    *,
    subspace: Literal["common", "common_and_task"] = "common",
    fraction: Probability = 0.8,
    scale: Scale = 1.0,
) -> Weights:
    """Gives all directions of the summed task matrices the same singular value, their mean: Iso-C (arXiv 2502.04959).

    For each matrix (kernels as outputs × rest): with Σ τ = U S Vᵀ, `scale` times mean(S) U Vᵀ is added to the base,
    the mean over the shorter side r. Other tensors: `scale` times the mean task vector. `subspace: common_and_task` is
    Iso-CTS: of N members each gives round((r - floor(fraction r)) / N) directions of its task matrix outside the
    common ones, which are the first of Σ τ, and all are made orthogonal. Only directions within the numerical rank
    count; the published code also fills the null space, with rounding noise.
    """
    merge = _common if subspace == "common" else partial(_common_and_task, fraction=fraction)
    return merge_matrices(members, base, layout, scale, merge)


def _common(matrices: Tensor) -> Tensor:
    found = decompose(matrices.sum(0))
    return found.values.sum() / min(matrices.shape[1:]) * (found.left @ found.right)


def _common_and_task(matrices: Tensor, fraction: float) -> Tensor:
    rank = min(matrices.shape[1:])
    count = len(matrices)
    per_member = min(round((rank - int(rank * fraction)) / count), rank // count)
    common = decompose(matrices.sum(0)).first(rank - count * per_member)
    outside = [matrix - common.left @ (common.left.T @ matrix) for matrix in matrices]
    parts = concatenate([*(decompose(matrix).first(per_member) for matrix in outside), common])
    return parts.values.sum() / rank * (partial_isometry(parts.left) @ partial_isometry(parts.right))
