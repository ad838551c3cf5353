"""The magnification of arXiv 2411.09263: weights of some members times a factor."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch

from sweep.core.weights import TRAINABLE_ROLES, ParameterLayout, Positive, ScaleFactors, TensorSpec
from sweep.plugins.scalings._which import Which, scaled

CITES = ("wang2024rethinking",)


def magnify(
    count: int, layout: ParameterLayout, *, factor: Positive = 2.0, members: Which = "all", tensors: str = "parameters"
) -> ScaleFactors:
    """Multiplies tensors of some members by `factor` before they are merged (arXiv 2411.09263).

    `tensors` is `parameters` (trainable ones), `all` (running statistics too, as in the published script), `weights`
    (parameters with two or more axes), `head`, `layer:k` (weight and bias of the k-th layer, from 0), or a glob of
    tensor names such as `conv1.*`. Raises ValueError if no tensor matches.
    """
    columns = torch.tensor(_layer(layout, tensors) or [_chosen(entry, tensors) for entry in layout.entries])
    if not columns.any():
        raise ValueError(f"magnify: no tensor matches `{tensors}`")
    factors = torch.ones(count, len(layout.entries), dtype=torch.float64)
    for member in scaled(count, members):
        factors[member, columns] = factor
    return factors.as_subclass(ScaleFactors)


def _chosen(entry: TensorSpec, tensors: str) -> bool:
    """Whether a tensor is scaled."""
    if tensors == "all":
        return True
    if tensors == "parameters":
        return entry.role in TRAINABLE_ROLES
    if tensors == "weights":
        return entry.role in TRAINABLE_ROLES and len(entry.shape) > 1
    if tensors == "head":
        return entry.role == "head"
    return fnmatchcase(entry.name, tensors)


def _layer(layout: ParameterLayout, tensors: str) -> list[bool]:
    """Whether each tensor belongs to the layer of `layer:k`; an empty list for other values."""
    head, _, place = tensors.partition(":")
    if head != "layer" or not place.isdecimal():
        return []
    modules = [entry.name.rpartition(".")[0] for entry in layout.entries if len(entry.shape) > 1]
    names = list(dict.fromkeys(modules))[int(place) :][:1]
    return [entry.role in TRAINABLE_ROLES and entry.name.rpartition(".")[0] in names for entry in layout.entries]
