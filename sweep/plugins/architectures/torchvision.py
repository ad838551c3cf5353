"""Any classifier of torchvision, by its name."""

from __future__ import annotations

from torch import nn

from sweep.plugins.architectures._recipes import EITHER, TUNED
from sweep.plugins.architectures._torchvision import classifier
from sweep.plugins.architectures._zoo import Side

CITES = ()

RECIPE = EITHER
FINE_TUNING = TUNED | {"lr": 1e-4}


def torchvision(
    classes: int, channels: int, size: int, *, name: str, pretrained: bool = False, upsample: Side = 0
) -> nn.Module:
    """Any classifier of torchvision by `name`, such as `convnext_tiny`; `upsample` resizes images in the network."""
    return classifier(name, (classes, channels, size), pretrained=pretrained, upsample=upsample)
