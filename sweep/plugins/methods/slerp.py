"""Spherical linear interpolation."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sweep.core.weights import ParameterLayout, Probability, TwoMembers, Weights
from sweep.plugins.methods._spheres import combine, ranges_of
from sweep.plugins.methods._task_vectors import gram

CITES = ("shoemake1985animating",)

_STRAIGHT = 0.9995
"""Cosine above which the arc is taken as straight, as in mergekit and FusionBench."""


def slerp(
    members: TwoMembers,
    layout: ParameterLayout,
    *,
    t: Probability = 0.5,
    scope: Literal["tensor", "global"] = "tensor",
) -> Weights:
    """A point on the arc between two members: [sin((1 - t) ω) a + sin(t ω) b] / sin ω, with ω the angle between them.

    Norms stay inside a and b. `scope`: an angle for each tensor (mergekit, FusionBench) or for the whole vector
    (git-re-basin). Where |cos ω| > 0.9995, or a norm is zero, it is the straight line. Shoemake, SIGGRAPH 1985.
    """
    ranges = ranges_of(layout, scope)
    return combine(members, ranges, [_coefficients(gram(members[:, columns]), t) for columns in ranges])


def _coefficients(products: Tensor, t: float) -> Tensor:
    """Coefficients (2,) of two vectors from their inner products (2, 2)."""
    norms = products.diagonal().sqrt()
    norm = float(norms.prod())
    cosine = float(products[0, 1]) / norm if norm > 0 else 1.0
    if abs(cosine) > _STRAIGHT:
        return torch.tensor([1 - t, t], dtype=torch.float64)
    angle = math.acos(cosine)
    parts = [math.sin((1 - t) * angle), math.sin(t * angle)]
    return torch.tensor(parts, dtype=torch.float64) / math.sin(angle)
