"""DenseNet-161 of arXiv 1608.06993."""

from __future__ import annotations

from torch import nn

from sweep.plugins.architectures._recipes import CONVOLUTIONAL, TUNED
from sweep.plugins.architectures._torchvision import Stem, dense
from sweep.plugins.architectures._zoo import Side

CITES = ("huang2017densely",)

RECIPE = CONVOLUTIONAL
FINE_TUNING = TUNED | {"lr": 0.01}


def densenet161(
    classes: int, channels: int, size: int, *, stem: Stem = "cifar", pretrained: bool = False, upsample: Side = 0
) -> nn.Module:
    """DenseNet-161 (1608.06993), torchvision's; the `cifar` stem is for images below about 64 pixels."""
    return dense("densenet161", (classes, channels, size), stem=stem, pretrained=pretrained, upsample=upsample)
