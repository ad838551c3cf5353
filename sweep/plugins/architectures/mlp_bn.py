"""The multi-layer perceptron with batch normalisation of arXiv 2411.09263's experiments."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Len
from torch import nn

from sweep.core.weights import Probability
from sweep.plugins.architectures._perceptron import MLP, Width

CITES = ("wang2024rethinking",)


def mlp_bn(
    classes: int,
    channels: int,
    size: int,
    *,
    hidden: Annotated[tuple[Width, ...], Len(1)] = (512, 256, 128, 64),
    dropout: Probability = 0.5,
) -> nn.Module:
    """Multi-layer perceptron with batch norm, ReLU and dropout; its defaults are those of arXiv 2411.09263."""
    return MLP([channels * size * size, *hidden, classes], dropout, batch_norm=True)
