"""Brier score."""

from __future__ import annotations

from torch import Tensor

CITES = ("brier1950verification",)


def brier(probabilities: Tensor, labels: Tensor) -> float:
    """Brier score: mean over examples of Σ_classes (p - y)², y the one-hot label; 0 is the best value, 2 the worst."""
    right = probabilities.gather(1, labels[:, None])[:, 0]
    return float((probabilities.square().sum(1) - 2 * right + 1).mean())
