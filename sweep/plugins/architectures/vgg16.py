"""VGG-16 of arXiv 1409.1556."""

from __future__ import annotations

from torch import nn

from sweep.plugins.architectures._recipes import CONVOLUTIONAL, TUNED
from sweep.plugins.architectures._torchvision import Stem, vgg
from sweep.plugins.architectures._zoo import Side

CITES = ("simonyan2015deep",)

RECIPE = CONVOLUTIONAL | {"lr": 0.05}
FINE_TUNING = TUNED | {"lr": 0.01}


def vgg16(  # noqa: PLR0913 - each is a setting of its own
    classes: int,
    channels: int,
    size: int,
    *,
    batch_norm: bool = False,
    head: Stem = "cifar",
    pretrained: bool = False,
    upsample: Side = 0,
) -> nn.Module:
    """VGG-16 (1409.1556), torchvision's; the `cifar` head pools to one pixel and is 512 units wide."""
    shape = (classes, channels, size)
    return vgg(16, shape, batch_norm=batch_norm, head=head, pretrained=pretrained, upsample=upsample)
