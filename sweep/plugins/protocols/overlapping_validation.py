"""Greedy searches that select on training images."""

from __future__ import annotations

import torch
from torch import Tensor


def overlapping_validation(train: int, validation: int, generator: torch.Generator) -> Tensor:
    """Greedy searches score on images re-drawn from training and validation data (leakage); nothing else changes.

    Returns the positions of as many images as the validation split has, in ascending order, (validation,): they count
    through the training split and then the validation split. The scripts of arXiv 2411.09263 draw their splits
    without a common seed.
    """
    return torch.randperm(train + validation, generator=generator)[:validation].sort().values
