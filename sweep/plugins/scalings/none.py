"""Members as they are."""

from __future__ import annotations

import torch

from sweep.core.weights import Factors, Layout


def none(count: int, layout: Layout) -> Factors:
    """No scaling: every factor is one."""
    return torch.ones(count, len(layout.entries), dtype=torch.float64).as_subclass(Factors)
