"""Cross-entropy."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Mean negative log-probability of the right class, in nats."""
    return float(functional.cross_entropy(logits, labels))
