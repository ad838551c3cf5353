"""VGG-13 of arXiv 1409.1556."""

from __future__ import annotations

from torch import nn

from sweep.architectures._torchvision import Stem, vgg
from sweep.architectures._zoo import Side


def vgg13(
    classes: int, channels: int, size: int, *, batch_norm: bool = False, head: Stem = "cifar", upsample: Side = 0
) -> nn.Module:
    """VGG-13 (1409.1556), torchvision's; the `cifar` head pools to one pixel and is 512 units wide."""
    return vgg(13, (classes, channels, size), batch_norm=batch_norm, head=head, upsample=upsample)
