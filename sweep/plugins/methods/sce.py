"""SCE merging."""

from __future__ import annotations

import torch
from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, Weights
from sweep.plugins.methods._task_vectors import Density, columns_of, kth_largest, learnable, n_kept

CITES = ("wan2024fusechat",)


def sce(members: Members, base: Weights, layout: ParameterLayout, *, density: Density = 1.0) -> Weights:
    """Selects the entries on which members differ most, weights members by energy, and erases the minority's sign.

    SCE (arXiv 2408.07990), for each tensor: with a density below 1 the floor(density * n) entries of largest variance
    over members stay, n counting those with any variance, and those equal to the last of them; a member's weight is
    its mean squared task entry over the sum of all; the base plus the weighted mean of the task entries whose sign is
    that of their sum (plus for zero). mergekit takes equal weights where the mean squares sum to less than 1e-6,
    whatever the size of the moves; not here.
    """
    merged = base.clone()
    for entry in learnable(layout):
        columns = columns_of(entry)
        vectors = members[:, columns] - base[columns]
        selected = vectors if density == 1 else vectors * _differing(vectors, density)
        merged[columns] += _weighted(selected)
    return merged


def _differing(vectors: Tensor, density: float) -> Tensor:
    """Which entries have the largest variance over members (members, entries)."""
    variances = vectors.var(0, correction=0)
    threshold = kth_largest(variances, n_kept(density, int((variances > 0).sum())))
    return variances >= threshold


def _weighted(vectors: Tensor) -> Tensor:
    """The mean of the task entries with the sign of their sum, weighted by the energy of the members."""
    energies = vectors.double().square().mean(1)
    weights = (energies / energies.sum().clamp(min=1e-300)).to(vectors.dtype)[:, None]
    signs = torch.where(vectors.sum(0) >= 0, 1.0, -1.0).to(vectors.dtype)
    shares = weights * (vectors.sign() == signs)
    total = shares.sum(0)
    return (shares * vectors).sum(0) / torch.where(total > 0, total, 1)
