"""No scaling."""

from __future__ import annotations

import torch

from sweep.core.weights import ParameterLayout, ScaleFactors

CITES = ()


def none(count: int, layout: ParameterLayout) -> ScaleFactors:
    """No scaling: every factor is 1."""
    return torch.ones(count, len(layout.entries), dtype=torch.float64).as_subclass(ScaleFactors)
