"""The trimmed mean of weights."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Lt

from sweep.core.weights import Members, Weights
from sweep.plugins.methods._task_vectors import chunks, n_kept, sort_members

CITES = ("yin2018byzantine",)


def trimmed_mean(members: Members, *, trim: Annotated[float, Ge(0), Lt(0.5)] = 0.2) -> Weights:
    """The mean of each parameter over members, without the floor(trim * N) smallest and largest (arXiv 1803.01498)."""
    merged = torch.empty_like(members[0])
    cut = n_kept(trim, len(members))
    for columns in chunks(members):
        values = sort_members(members[:, columns])[cut : len(members) - cut]
        merged[columns] = torch.stack(values).mean(0)
    return merged
