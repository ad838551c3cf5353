"""Searches that select on images of the training."""

from __future__ import annotations

import torch
from torch import Tensor


def overlapping_validation(train: int, validation: int, generator: torch.Generator) -> Tensor:
    """Searches score on as many images as are held out, drawn anew from those and the training's; others see no change.

    Positions in the training split followed by the validation split, of those sizes; (validation,). The published
    scripts draw their splits without a common seed (arXiv 2411.09263).
    """
    return torch.randperm(train + validation, generator=generator)[:validation].sort().values
