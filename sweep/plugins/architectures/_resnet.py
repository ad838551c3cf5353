"""The residual networks of arXiv 1512.03385, which differ in their depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from sweep.plugins.architectures._family import name_builder
from sweep.plugins.architectures._recipes import CONVOLUTIONAL, TUNED
from sweep.plugins.architectures._torchvision import Stem, assemble, check_pretrained, new_model, small_stem
from sweep.plugins.architectures._zoo import Side, input_side

RECIPE = CONVOLUTIONAL
FINE_TUNING = TUNED | {"lr": 0.01}


def resnet(depth: int) -> Callable[..., nn.Module]:
    """The architecture `resnet<depth>`."""
    name = f"resnet{depth}"

    def build(
        classes: int, channels: int, size: int, *, stem: Stem = "cifar", pretrained: bool = False, upsample: Side = 0
    ) -> nn.Module:
        def make_new() -> Any:
            model = new_model(name, classes)
            if stem == "cifar":
                model.conv1 = small_stem(channels, model.conv1)
                model.maxpool = nn.Identity()
            return model

        check_pretrained("stem", stem, pretrained)
        side = input_side(size, upsample)
        return assemble(name, make_new, (classes, channels, size), pretrained=pretrained, side=side)

    documentation = f"""ResNet-{depth} (arXiv 1512.03385) of torchvision, with a stem for small or for large images.

    The `cifar` stem, for images below about 64 pixels, is a 3x3 convolution of stride 1 without pooling (section 4.2);
    the `imagenet` stem a 7x7 convolution of stride 2 with pooling. Pretrained weights need `stem: imagenet`.
    """
    return name_builder(build, name, documentation)
