"""A scaling that leaves the predictions of a ReLU network unchanged: a control for `magnify`."""

from __future__ import annotations

import torch

from sweep.core.weights import TRAINABLE_ROLES, ParameterLayout, Positive, ScaleFactors
from sweep.plugins.scalings._which import Which, scaled

CITES = ()


def homogeneous(count: int, layout: ParameterLayout, *, factor: Positive = 2.0, members: Which = "all") -> ScaleFactors:
    """Multiplies weights by c and the bias of layer l by c^l, which multiplies the logits of a ReLU network by c^L.

    Predictions of a chain of linear and ReLU layers without normalisation stay the same: a control for `magnify`.
    Layers are counted from 1 in the order of the state dict, by their weights of two or more axes; normalisation layers
    are not scaled.
    """
    depth = 0
    powers = []
    for entry in layout.entries:
        matrix = entry.role in TRAINABLE_ROLES and len(entry.shape) > 1
        depth += matrix
        shift = entry.role in TRAINABLE_ROLES and entry.role != "norm" and not matrix
        powers.append(1 if matrix else depth if shift else 0)
    factors = torch.ones(count, len(layout.entries), dtype=torch.float64)
    for member in scaled(count, members):
        factors[member] = torch.tensor([factor**power for power in powers], dtype=torch.float64)
    return factors.as_subclass(ScaleFactors)
