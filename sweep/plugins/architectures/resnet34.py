"""ResNet-34 of arXiv 1512.03385."""

from __future__ import annotations

from torch import nn

from sweep.plugins.architectures._recipes import CONVOLUTIONAL, TUNED
from sweep.plugins.architectures._torchvision import Stem, residual
from sweep.plugins.architectures._zoo import Side

CITES = ("he2016residual",)

RECIPE = CONVOLUTIONAL
FINE_TUNING = TUNED | {"lr": 0.01}


def resnet34(
    classes: int, channels: int, size: int, *, stem: Stem = "cifar", pretrained: bool = False, upsample: Side = 0
) -> nn.Module:
    """ResNet-34 (1512.03385), torchvision's; the `cifar` stem is for images below about 64 pixels."""
    return residual("resnet34", (classes, channels, size), stem=stem, pretrained=pretrained, upsample=upsample)
