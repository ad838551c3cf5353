"""The Karcher mean of weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, Weights
from sweep.plugins.methods._spheres import combine, ranges_of
from sweep.plugins.methods._task_vectors import gram

CITES = ("karcher1977riemannian",)

_STEPS = 1000
_STEP_BOUND = 1e-13
_NO_DIRECTION = 1e-6
_ROUNDING = 1e-15


def karcher(members: Members, layout: ParameterLayout, *, scope: Literal["tensor", "global"] = "tensor") -> Weights:
    """The mean of the members' directions on the unit sphere, by length of arc, times the mean of their norms.

    The direction minimises the sum of squared angles (Karcher 1977); for two members it is that of `slerp`, with
    another norm. `scope`: for each tensor (mergekit) or for the whole vector. Iterated in double precision, in the
    space that the members span, to a step of 1e-13; mergekit stops at 1e-5. A member whose tensor is zero has no
    direction, and counts in the mean norm only; where directions cancel, the plain mean is taken.
    """
    ranges = ranges_of(layout, scope)
    return combine(members, ranges, [_coefficients(gram(members[:, columns])) for columns in ranges])


def _coefficients(products: Tensor) -> Tensor:
    """Coefficients (members,) of the members from their inner products (members, members)."""
    norms = products.diagonal().sqrt()
    inverse = torch.where(norms > 0, 1 / norms, 0)
    squares, axes = torch.linalg.eigh(products * inverse[:, None] * inverse)
    scales = squares.clamp(min=0).sqrt()
    mean = _mean_direction((axes * scales)[norms > 0])
    if mean is None:
        return torch.full_like(norms, 1 / len(norms))
    spanned = squares > _ROUNDING * squares[-1]
    shares: Tensor = axes[:, spanned] @ (mean[spanned] / scales[spanned])
    return shares * inverse * norms.mean()


def _mean_direction(units: Tensor) -> Tensor | None:
    """The Karcher mean of unit vectors (members, axes), or None where they cancel."""
    mean: Tensor = units.sum(0)
    if not len(units) or mean.norm() < _NO_DIRECTION * len(units):
        return None
    mean = mean / mean.norm()
    for _ in range(_STEPS):
        cosines = units @ mean
        across = units - cosines[:, None] * mean
        sines = across.norm(dim=1)
        # The tangent from the mean to a unit vector: its part across the mean, with the angle as length.
        tangents = across * torch.where(sines > 0, torch.atan2(sines, cosines) / sines, 0)[:, None]
        tangent = tangents.mean(0)
        length = tangent.norm()
        mean = length.cos() * mean + torch.sinc(length / torch.pi) * tangent
        mean = mean / mean.norm()
        if length < _STEP_BOUND:
            break
    return mean
