"""DELLA-Merging."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, Weights
from sweep.plugins.methods._task_vectors import DROPS_AT_RANDOM, Scale, Then, columns_of, learnable, put_together

CITES = ("deep2024della",)
EXEMPT = DROPS_AT_RANDOM


def della(  # noqa: PLR0913 - each is a need or a setting of its own
    members: Members,
    base: Weights,
    layout: ParameterLayout,
    generator: torch.Generator,
    *,
    density: Annotated[float, Gt(0), Lt(1)] = 0.5,
    epsilon: Annotated[float, Ge(0), Lt(0.5)] = 0.15,
    then: Then = "ties",
    scale: Scale = 1.0,
) -> Weights:
    """Keeps task entries at random, larger ones of a row more often, rescales them, and puts the vectors together.

    DELLA (arXiv 2406.11617): an entry of rank r (0 for the smallest magnitude) of the n in its row stays with
    probability p = density - epsilon + 2 epsilon r / (n - 1), and is divided by p, so each entry keeps its
    expectation. Rows are those of a tensor as matrix (outputs, rest), a tensor with one axis is one row, and p is
    `density` for n = 1; entries of equal magnitude rank by place. `then`: as in `dare`, with the paper's sign
    election by default; `scale` times that is added to the base. mergekit ranks kernels along the input channels and
    rescales by magnitude; the authors' code takes matrices only.
    """
    merged = base.clone()
    for entry in learnable(layout):
        columns = columns_of(entry)
        vectors = members[:, columns] - base[columns]
        rows = vectors.view(len(members), entry.shape[0] if len(entry.shape) > 1 else 1, -1)
        chances = _chances(rows.abs(), density, epsilon)
        draws = torch.rand(rows.shape, generator=generator).to(rows.device)
        sparse = torch.where(draws < chances, rows / chances, 0)
        merged[columns] += scale * put_together(sparse.view(len(members), -1), then)
    return merged


def check_settings(density: float, epsilon: float, **_: object) -> None:
    """Raise ValueError unless all entries stay with a probability above 0 and of at most 1."""
    if epsilon >= density or density + epsilon > 1:
        raise ValueError(f"della: expected epsilon < density ≤ 1 - epsilon, got density {density}, epsilon {epsilon}")


def _chances(magnitudes: Tensor, density: float, epsilon: float) -> Tensor:
    """With which probability each entry stays, by its rank along the last axis."""
    count = magnitudes.shape[-1]
    if count == 1:
        return torch.full_like(magnitudes, density)
    order = magnitudes.argsort(dim=-1, stable=True)
    places = torch.arange(count, device=magnitudes.device)
    ranks = torch.empty_like(order).scatter_(-1, order, places.expand_as(order).contiguous())
    return density - epsilon + 2 * epsilon * ranks.to(magnitudes.dtype) / (count - 1)
