"""DARE."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, Weights
from sweep.plugins.methods._task_vectors import (
    DROPS_AT_RANDOM,
    Scale,
    Then,
    columns_of,
    learnable,
    merge_in_chunks,
    put_together,
    spread,
)

CITES = ("yu2024language",)
EXEMPT = DROPS_AT_RANDOM


def dare(  # noqa: PLR0913 - each is a need or a setting of its own
    members: Members,
    base: Weights,
    layout: ParameterLayout,
    generator: torch.Generator,
    *,
    drop: Annotated[float, Ge(0), Lt(1)] = 0.9,
    rescale: Literal["exact", "norm"] = "exact",
    then: Then = "average",
    scale: Scale = 1.0,
) -> Weights:
    """Drops each task entry with probability `drop`, rescales those that stay, and puts the vectors together.

    DARE (arXiv 2311.03099). `exact`: survivors are divided by 1 - drop, so each entry keeps its expectation and has the
    variance τ² drop / (1 - drop); `norm`: survivors of a tensor are scaled to its former sum of magnitudes (mergekit's
    default, biased on small tensors), a tensor without survivors stays at the base. `then`: the mean, the sum
    (task_arithmetic) or the mean with the elected sign (ties, as mergekit's dare_ties; the authors' code trims to 20%
    before it, which changes nothing for drop of 0.8 and more). `scale` times that is added to the base.
    """
    masks = torch.stack([_mask(len(base), drop, generator) for _ in members]).to(base.device)
    if rescale == "norm":
        entries = learnable(layout)
        factors = torch.stack([_norm_factors(members, base, masks, columns_of(entry)) for entry in entries], 1)
        stops = [entry.stop for entry in entries]

    def merged(vectors: Tensor, columns: slice) -> Tensor:
        sparse = vectors * masks[:, columns]
        if rescale == "norm":
            return scale * put_together(sparse * spread(factors, stops, columns), then)
        return scale * put_together(sparse / (1 - drop), then)

    return merge_in_chunks(members, base, merged)


def _mask(count: int, drop: float, generator: torch.Generator) -> Tensor:
    """Which entries of a task vector stay, (entries,)."""
    return torch.rand(count, generator=generator) >= drop


def _norm_factors(members: Tensor, base: Tensor, masks: Tensor, columns: slice) -> Tensor:
    """Sum of magnitudes of a tensor's task entries over that of its survivors, (members,); 0 without survivors."""
    magnitudes = (members[:, columns] - base[columns]).abs_()
    surviving = (magnitudes * masks[:, columns]).sum(1)
    return torch.where(surviving > 0, magnitudes.sum(1) / surviving, 0)
