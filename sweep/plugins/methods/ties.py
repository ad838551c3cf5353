"""TIES-Merging."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, Weights
from sweep.plugins.methods._task_vectors import (
    Density,
    Scale,
    columns_of,
    elected,
    kth_largest,
    learnable,
    merge_in_chunks,
    n_kept,
    spread,
    trim,
)

CITES = ("yadav2023ties",)
EXEMPT = {"copies": "the smaller entries of the task vector are dropped"}


def ties(  # noqa: PLR0913 - each is a need or a setting of its own
    members: Members,
    base: Weights,
    layout: ParameterLayout,
    *,
    density: Density = 0.2,
    scope: Literal["global", "tensor"] = "global",
    merge: Literal["mean", "sum"] = "mean",
    scale: Scale = 1.0,
) -> Weights:
    """Keeps each member's largest task entries, elects a sign per entry, and averages the members that agree with it.

    TIES (arXiv 2306.01708): of each task vector the floor(density * P) entries of largest magnitude stay, at least one,
    and those equal to the last of them; the sign is that of their sum; `scale` times the mean (or `sum`) of the members
    with this sign is added to the base. `scope`: the largest entries of the whole vector (the paper) or of each tensor
    (mergekit). The paper's code and FusionBench keep one entry more; mergekit keeps an arbitrary one of equal entries.
    FusionBench's defaults are `merge: sum, scale: 0.3`. Where entries cancel exactly nothing is added; the paper's code
    takes the sign of most entries there.
    """
    entries = learnable(layout) if scope == "tensor" else []
    ranges = [columns_of(entry) for entry in entries] or [slice(0, len(base))]
    thresholds = torch.stack([_thresholds(members, base, columns, density) for columns in ranges], 1)
    stops = [columns.stop for columns in ranges]

    def merged(vectors: Tensor, columns: slice) -> Tensor:
        limits = spread(thresholds, stops, columns) if entries else thresholds
        return scale * elected(trim(vectors, limits), merge)

    return merge_in_chunks(members, base, merged)


def _thresholds(members: Tensor, base: Tensor, columns: slice, density: float) -> Tensor:
    """The smallest magnitude of a task entry that each member keeps among these columns, (members,)."""
    start = base[columns]
    k = max(1, n_kept(density, len(start)))
    return torch.cat([kth_largest((member[columns] - start).abs_(), k) for member in members])
