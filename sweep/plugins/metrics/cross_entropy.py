"""Cross-entropy."""

from __future__ import annotations

from torch import Tensor

CITES = ("good1952rational",)


def cross_entropy(log_probabilities: Tensor, labels: Tensor) -> float:
    """Cross-entropy: mean negative log-probability of the right class, in nats."""
    return float(log_probabilities.gather(1, labels[:, None]).neg().mean())
