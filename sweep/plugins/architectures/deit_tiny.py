"""DeiT-Tiny of arXiv 2012.12877."""

from __future__ import annotations

from torch import nn

from sweep.plugins.architectures._recipes import TRANSFORMER, TUNED
from sweep.plugins.architectures._timm import classifier
from sweep.plugins.architectures._zoo import Side, choose_patch_size, input_side

CITES = ("touvron2021training", "wightman2019timm")

RECIPE = TRANSFORMER
FINE_TUNING = TUNED | {"lr": 1e-4}


def deit_tiny(
    classes: int, channels: int, size: int, *, patch_size: Side = 0, pretrained: bool = False, upsample: Side = 0
) -> nn.Module:
    """DeiT-Tiny (arXiv 2012.12877) of timm, with patches that fit the size of images.

    `patch_size: 0` gives patches of 16 pixels, or for smaller images the divisor that gives about 8 x 8 patches.
    """
    patch = choose_patch_size(input_side(size, upsample), patch_size)
    shape = (classes, channels, size)
    return classifier("deit_tiny_patch16_224", shape, pretrained=pretrained, upsample=upsample, patch_size=patch)
