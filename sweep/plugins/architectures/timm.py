"""Any classifier of timm, by its name."""

from __future__ import annotations

from torch import nn

from sweep.plugins.architectures._recipes import EITHER, TUNED
from sweep.plugins.architectures._timm import classifier
from sweep.plugins.architectures._zoo import Side

CITES = ("wightman2019timm",)

RECIPE = EITHER
FINE_TUNING = TUNED | {"lr": 1e-4}


def timm(
    classes: int, channels: int, size: int, *, name: str, pretrained: bool = False, upsample: Side = 0
) -> nn.Module:
    """Any classifier of timm by `name`, such as `resnet26d`; `upsample` resizes images in the network."""
    return classifier(name, (classes, channels, size), pretrained=pretrained, upsample=upsample)
