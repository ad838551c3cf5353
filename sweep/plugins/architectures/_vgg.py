"""The VGG networks of arXiv 1409.1556, which differ in their depth."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from sweep.plugins.architectures._family import name_builder
from sweep.plugins.architectures._recipes import CONVOLUTIONAL, TUNED
from sweep.plugins.architectures._torchvision import Stem, assemble, check_pretrained, classifier
from sweep.plugins.architectures._zoo import Side, input_side

RECIPE = CONVOLUTIONAL | {"lr": 0.05}
FINE_TUNING = TUNED | {"lr": 0.01}

_LETTERS = {11: "A", 13: "B", 16: "D", 19: "E"}  # the paper's names of the configurations


class SmallVGG(nn.Module):
    """VGG for small images: torchvision's tensor names, global pooling, and a head of three layers, 512 units wide."""

    def __init__(self, features: nn.Module, classes: int) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        first = [nn.Linear(512, 512), nn.ReLU(True), nn.Dropout(0.5)]
        second = [nn.Linear(512, 512), nn.ReLU(True), nn.Dropout(0.5)]
        self.classifier = nn.Sequential(*first, *second, nn.Linear(512, classes))
        for module in self.modules():  # initialised as in torchvision
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(examples, channels, size, size) -> (examples, classes); size at least 32."""
        logits: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits


def vgg(depth: int) -> Callable[..., nn.Module]:
    """The architecture `vgg<depth>`."""
    name = f"vgg{depth}"

    def build(  # noqa: PLR0913 - each is a setting of its own
        classes: int,
        channels: int,
        size: int,
        *,
        batch_norm: bool = False,
        head: Stem = "cifar",
        pretrained: bool = False,
        upsample: Side = 0,
    ) -> nn.Module:
        from torchvision.models.vgg import cfgs, make_layers

        shape = (classes, channels, size)
        variant = f"{name}_bn" if batch_norm else name
        check_pretrained("head", head, pretrained)
        if head == "imagenet":
            return classifier(variant, shape, pretrained=pretrained, upsample=upsample)

        def make_new() -> nn.Module:
            return SmallVGG(make_layers(cfgs[_LETTERS[depth]], batch_norm=batch_norm), classes)

        return assemble(variant, make_new, shape, pretrained=False, side=input_side(size, upsample))

    documentation = f"""VGG-{depth} (arXiv 1409.1556) of torchvision, with a head for small or for large images.

    The `cifar` head pools each channel to one pixel and has two hidden layers of 512 units; the `imagenet` head has two
    of 4096, 120 million weights. Pretrained weights need `head: imagenet`.
    """
    return name_builder(build, name, documentation)
