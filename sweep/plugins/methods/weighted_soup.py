"""The weighted average of weights."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, TensorCombination

CITES = ("wortsman2022soups",)

Numbers = tuple[Annotated[float, Ge(0), Le(1e6)], ...]


def weighted_soup(
    members: Members,
    layout: ParameterLayout,
    *,
    weights: Numbers = (),
    last: Numbers = (),
    tensors: dict[str, Numbers] | None = None,
) -> TensorCombination:
    """The mean of the members, weighted by their places in the subset (arXiv 2203.05482); running statistics too.

    `weights` has one number per member, and is divided by its sum; empty means equal. With `last`, `weights` holds in
    the first layer, `last` in the last one, and layers between lie on the line between both: a gradient over depth.
    `tensors` maps globs of tensor names to weights of their own. Raises ValueError for another number of weights than
    members, for weights that are all zero, for a glob that no tensor matches, and for a tensor that two globs match.
    """
    first = _normalized(weights, len(members))
    final = _normalized(last, len(members)) if last else first
    own = {glob: _normalized(numbers, len(members)) for glob, numbers in (tensors or {}).items()}
    _check_globs(own, layout)
    depths = _depths(layout)
    merged = torch.empty_like(members[0])
    for entry, depth in zip(layout.entries, depths, strict=True):
        columns = slice(entry.offset, entry.stop)
        if entry.stop <= len(merged):
            by_depth = (1 - depth) * first + depth * final
            shares = next((own[glob] for glob in own if fnmatchcase(entry.name, glob)), by_depth)
            merged[columns] = shares.to(members) @ members[:, columns]
    return merged.as_subclass(TensorCombination)


def _normalized(numbers: Numbers, count: int) -> Tensor:
    """The weights of `count` members with the sum 1, equal for no numbers."""
    weights = torch.tensor(numbers or (1.0,) * count, dtype=torch.float64)
    if len(weights) != count:
        raise ValueError(f"weighted_soup: expected {count} weights, one per member, got {len(weights)}")
    if not weights.sum() > 0:
        raise ValueError("weighted_soup: expected a weight above 0, got zeros only")
    return weights / weights.sum()


def _check_globs(globs: Mapping[str, Tensor], layout: ParameterLayout) -> None:
    """Raise ValueError unless each glob matches a tensor and each tensor one glob at most: a mapping has no order."""
    matched = {entry.name: [glob for glob in globs if fnmatchcase(entry.name, glob)] for entry in layout.entries}
    for name, own in matched.items():
        if len(own) > 1:
            raise ValueError(f"weighted_soup: `{own[0]}` and `{own[1]}` both match {name}")
    for glob in globs:
        if not any(glob in own for own in matched.values()):
            raise ValueError(f"weighted_soup: no tensor matches `{glob}`")


def _depths(layout: ParameterLayout) -> list[float]:
    """The depth of each tensor from 0, in the first layer with a matrix or kernel, to 1, in the last such layer.

    Other tensors, as those of a norm, are as deep as the last such layer before them.
    """
    layers: dict[str, int] = {}
    depth = -1
    matrices = {entry.name.rpartition(".")[0] for entry in layout.entries if len(entry.shape) > 1}
    for entry in layout.entries:
        module = entry.name.rpartition(".")[0]
        if module not in layers:
            depth += module in matrices
            layers[module] = max(depth, 0)
    return [layers[entry.name.rpartition(".")[0]] / max(depth, 1) for entry in layout.entries]
