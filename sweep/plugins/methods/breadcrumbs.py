"""Model breadcrumbs."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, Weights
from sweep.plugins.methods._task_vectors import Density, Scale, columns_of, kth_largest, learnable, n_kept

CITES = ("davari2024breadcrumbs",)
EXEMPT = {"copies": "the largest and smallest task entries are dropped, and task vectors are added"}


def breadcrumbs(  # noqa: PLR0913 - each is a need or a setting of its own
    members: Members,
    base: Weights,
    layout: ParameterLayout,
    *,
    density: Density = 0.9,
    gamma: Annotated[float, Ge(0), Lt(1)] = 0.01,
    scale: Scale = 0.3,
    scope: Literal["tensor", "row"] = "tensor",
) -> Weights:
    """Adds `scale` times the members' task vectors without their largest and their smallest entries (arXiv 2312.06795).

    Of P task entries the floor(gamma * P) of largest magnitude are dropped, the next floor(density * P) stay, fewer
    are dropped at the top where both do not fit, and entries equal to the first or the last that stays, stay as well.
    `scope`: P counts a tensor (mergekit), or a row along its last axis (the authors' code, where a 3 × 3 kernel is
    three rows of 3, none dropped at the top).
    """
    merged = base.clone()
    for entry in learnable(layout):
        columns = columns_of(entry)
        vectors = members[:, columns] - base[columns]
        rows = vectors.view(len(members), -1, entry.shape[-1]) if scope == "row" and entry.shape else vectors
        kept = _kept(rows.abs(), density, gamma)
        merged[columns] += scale * (rows * kept).sum(0).view(-1)
    return merged


def _kept(magnitudes: Tensor, density: float, gamma: float) -> Tensor:
    """Which entries along the last axis stay."""
    count = magnitudes.shape[-1]
    kept = n_kept(density, count)
    dropped = min(n_kept(gamma, count), count - kept)
    if not kept:
        return torch.zeros_like(magnitudes, dtype=torch.bool)
    smallest = kth_largest(magnitudes, dropped + kept)
    largest = kth_largest(magnitudes, dropped + 1)
    return (magnitudes >= smallest) & (magnitudes <= largest)
