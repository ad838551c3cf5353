"""MagMax."""

from __future__ import annotations

import torch
from torch import Tensor

from sweep.core.weights import Members, Weights
from sweep.plugins.methods._task_vectors import Scale, merge_in_chunks

CITES = ("marczak2024magmax",)
EXEMPT = {"copies": "half of the task vector is added by default; `scale: 1` keeps the law"}


def magmax(members: Members, base: Weights, *, scale: Scale = 0.5) -> Weights:
    """The base plus `scale` times, for each entry, the task entry of largest magnitude: MagMax (arXiv 2407.06322).

    Of members with equal magnitudes the later one counts.
    """

    def merged(vectors: Tensor, _: slice) -> Tensor:
        largest = vectors[0]
        for vector in vectors[1:]:
            largest = torch.where(vector.abs() >= largest.abs(), vector, largest)
        return scale * largest

    return merge_in_chunks(members, base, merged)
