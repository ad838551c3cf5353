"""ViT-Base of arXiv 2010.11929."""

from __future__ import annotations

from torch import nn

from sweep.plugins.architectures._recipes import TRANSFORMER, TUNED
from sweep.plugins.architectures._torchvision import transformer
from sweep.plugins.architectures._zoo import Side

CITES = ("dosovitskiy2021image",)

RECIPE = TRANSFORMER | {"lr": 5e-4, "batch_size": 512}
FINE_TUNING = TUNED | {"lr": 1e-4, "batch_size": 128}


def vit_b_16(
    classes: int, channels: int, size: int, *, patch_size: Side = 0, pretrained: bool = False, upsample: Side = 0
) -> nn.Module:
    """ViT-Base (arXiv 2010.11929) of torchvision, with patches that fit the size of images.

    `patch_size: 0` gives patches of 16 pixels, or for smaller images the divisor that gives about 8 x 8 patches.
    """
    shape = (classes, channels, size)
    return transformer(shape, patch_size=patch_size, pretrained=pretrained, upsample=upsample)
