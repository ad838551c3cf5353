"""The magnifying perturbation of the paper, on parameters that a factor makes sense for."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

import torch

from sweep.weights import LEARNABLE, Entry, Factors, Layout, Positive

Which = Literal["all", "first", "last", "all_but_first", "all_but_last"]


def magnify(
    count: int, layout: Layout, *, factor: Positive = 2.0, members: Which = "all", tensors: str = "parameters"
) -> Factors:
    """Multiply tensors of some members by `factor` before they are merged (arXiv 2411.09263).

    `tensors`: parameters (learnable ones), all (running statistics too, as the published script does), weights (those
    with two or more axes), head, or a glob of tensor names such as `conv1.*`. Raises ValueError where none matches.
    """
    columns = torch.tensor([_chosen(entry, tensors) for entry in layout.entries])
    if not columns.any():
        raise ValueError(f"magnify: no tensor matches `{tensors}`")
    factors = torch.ones(count, len(layout.entries), dtype=torch.float64)
    for member in _scaled(count, members):
        factors[member, columns] = factor
    return factors.as_subclass(Factors)


def _scaled(count: int, members: str) -> range:
    """Positions in the subset of the members that are scaled."""
    ranges = {
        "all": range(count),
        "first": range(1),
        "last": range(count - 1, count),
        "all_but_first": range(1, count),
        "all_but_last": range(count - 1),
    }
    return ranges[members]


def _chosen(entry: Entry, tensors: str) -> bool:
    """Whether a tensor is one of those that are scaled."""
    if tensors == "all":
        return True
    if tensors == "parameters":
        return entry.role in LEARNABLE
    if tensors == "weights":
        return entry.role in LEARNABLE and len(entry.shape) > 1
    if tensors == "head":
        return entry.role == "head"
    return fnmatchcase(entry.name, tensors)
