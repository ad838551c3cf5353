"""Accuracy."""

from __future__ import annotations

from torch import Tensor

CITES = ()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of examples whose largest logit is the right class; the lower class wins a tie."""
    return float((logits.argmax(-1) == labels).double().mean())
