"""Accuracy."""

from __future__ import annotations

from torch import Tensor

CITES = ()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of examples whose largest logit is that of the right class; in a tie the class of lower index counts."""
    return float((logits.argmax(-1) == labels).double().mean())
