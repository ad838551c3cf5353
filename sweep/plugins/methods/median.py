"""The median of weights."""

from __future__ import annotations

import torch

from sweep.core.weights import Members, Weights
from sweep.plugins.methods._task_vectors import chunks, sort_members

CITES = ("yin2018byzantine",)


def median(members: Members) -> Weights:
    """The median of each parameter over members, the mean of the middle two for an even number (arXiv 1803.01498)."""
    merged = torch.empty_like(members[0])
    upper = len(members) // 2
    for columns in chunks(members):
        values = sort_members(members[:, columns])
        merged[columns] = (values[upper] + values[len(members) - 1 - upper]) / 2
    return merged
