"""WUDI-Merging."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from sweep.core.weights import Members, ParameterLayout, Weights
from sweep.plugins.methods._matrices import merge_matrices

CITES = ("cheng2025interference",)
EXEMPT = {
    "copies": "it starts from the sum of the task vectors, and its steps have a fixed size",
    "scale": "the steps of Adam have a fixed size, whatever the size of the task vectors",
}

_DECAY = 0.9
_SQUARE_DECAY = 0.999
_EPSILON = 1e-8
"""Adam's defaults; importing `torch.optim` for a dozen lines takes seconds."""


def wudi(
    members: Members,
    base: Weights,
    layout: ParameterLayout,
    *,
    steps: Annotated[int, Ge(0), Le(100_000)] = 300,
    rate: Annotated[float, Gt(0), Le(1)] = 1e-5,
) -> Weights:
    """Moves the summed task matrices so that they disturb each member's task matrix least (WUDI, arXiv 2503.08099).

    For each matrix (kernels as outputs × rest), Adam with the step `rate` minimises Σ ‖(w - τ_i) τ_iᵀ‖² / ‖τ_i‖² over w
    from w = Σ τ_i, in double precision; base + w. Other tensors: the mean task vector (FusionBench; the authors leave
    them at the base, and take matrices of attention and MLP only). An entry moves by at most about steps × rate.
    """
    return merge_matrices(members, base, layout, 1.0, partial(_optimize, steps=steps, rate=rate))


def _optimize(matrices: Tensor, steps: int, rate: float) -> Tensor:
    """The merged task matrix (rows, columns) of task matrices (members, rows, columns)."""
    vectors = matrices.double()
    merged = vectors.sum(0)
    gradient = _gradient(vectors)
    mean = torch.zeros_like(merged)
    square = torch.zeros_like(merged)
    for step in range(1, steps + 1):
        slope = gradient(merged)
        mean.lerp_(slope, 1 - _DECAY)
        square.lerp_(slope.square(), 1 - _SQUARE_DECAY)
        spread = (square / (1 - _SQUARE_DECAY**step)).sqrt_().add_(_EPSILON)
        merged.addcdiv_(mean, spread, value=-rate / (1 - _DECAY**step))
    return merged.to(matrices.dtype)


def _gradient(vectors: Tensor) -> Callable[[Tensor], Tensor]:
    """The gradient 2 Σ (w - τ_i) τ_iᵀτ_i / ‖τ_i‖² at w, by whichever order of products is shorter."""
    norms = vectors.square().sum((1, 2))
    present = vectors[norms > 0]
    weights = present / norms[norms > 0].view(-1, 1, 1)
    count, rows, columns = present.shape
    if columns > 2 * count * rows:
        return lambda merged: 2 * ((merged - present) @ weights.mT @ present).sum(0)
    products = torch.zeros(columns, columns, dtype=vectors.dtype, device=vectors.device)
    pull = torch.zeros_like(vectors[0])
    for weight, vector in zip(weights, present, strict=True):
        product = weight.T @ vector
        products += product
        pull += vector @ product
    return lambda merged: 2 * (merged @ products - pull)
