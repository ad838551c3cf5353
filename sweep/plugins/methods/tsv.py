"""Task singular vectors."""

from __future__ import annotations

from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, Weights
from sweep.plugins.methods._matrices import concatenate, decompose, merge_matrices, partial_isometry
from sweep.plugins.methods._task_vectors import Scale

CITES = ("gargiulo2025task",)
EXEMPT = {"copies": "of N members each keeps one N-th of its directions"}


def tsv(members: Members, base: Weights, layout: ParameterLayout, *, scale: Scale = 1.0) -> Weights:
    """Keeps the first directions of each member's task matrices, makes them orthogonal, and adds them up.

    TSV-Merge (arXiv 2412.00081), for each matrix (kernels as outputs × rest): of N members each keeps the first
    floor(r / N) singular triplets, r the shorter side, none where N > r; left and right vectors are concatenated and
    replaced by the closest orthonormal ones; `scale` times their product is added to the base. Other tensors: `scale`
    times the mean task vector. Triplets beyond the numerical rank are left out and directions that members share count
    once: without these two rules the published code's result is rounding noise on dead units and softmax heads.
    """

    def merged(matrices: Tensor) -> Tensor:
        kept = min(matrices.shape[1:]) // len(matrices)
        parts = concatenate([decompose(matrix).first(kept) for matrix in matrices])
        return (partial_isometry(parts.left) * parts.values) @ partial_isometry(parts.right)

    return merge_matrices(members, base, layout, scale, merged)
