"""Classifiers of torchvision, and its families with stems and heads for small images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sweep.plugins.architectures._zoo import (
    Shape,
    fetching,
    fill,
    finished,
    known,
    linear_layers,
    made,
    patch_of,
    see_channels,
    side_of,
    told,
)

Stem = Literal["cifar", "imagenet"]


def classifier(name: str, shape: Shape, *, pretrained: bool, upsample: int) -> nn.Module:
    """A classifier of torchvision by its name, without auxiliary heads; transformers follow the images' size.

    Raises RegistryError for an unknown name, and for weights that cannot be had.
    """
    from torchvision import models

    known("torchvision", name, models.list_models(module=models))
    side = side_of(shape[2], upsample)
    auxiliary = name in ("googlenet", "inception_v3")
    arguments: dict[str, Any] = {"aux_logits": False, "init_weights": True} if auxiliary else {}
    if name.startswith("vit"):
        fill(side, int(name.rpartition("_")[2]))
        arguments["image_size"] = side
    arguments |= {"input_size": (side, side)} if name.startswith("maxvit") else {}
    fresh = partial(models.get_model, name, num_classes=shape[0], **arguments)
    return _assembled(name, fresh, shape, pretrained=pretrained, side=side)


def residual(name: str, shape: Shape, *, stem: Stem, pretrained: bool, upsample: int) -> nn.Module:
    """A residual network; the `cifar` stem is a 3x3 convolution of stride 1, without pooling (1512.03385, 4.2)."""

    def fresh() -> Any:
        model = _model(name, shape)
        if stem == "cifar":
            model.conv1, model.maxpool = _small(shape[1], model.conv1), nn.Identity()
        return model

    _whole("stem", stem, pretrained)
    return _assembled(name, fresh, shape, pretrained=pretrained, side=side_of(shape[2], upsample))


def dense(name: str, shape: Shape, *, stem: Stem, pretrained: bool, upsample: int) -> nn.Module:
    """A densely connected network; the `cifar` stem is a 3x3 convolution of stride 1, without pooling."""

    def fresh() -> Any:
        model = _model(name, shape)
        if stem == "cifar":
            model.features.conv0, model.features.pool0 = _small(shape[1], model.features.conv0), nn.Identity()
        return model

    _whole("stem", stem, pretrained)
    return _assembled(name, fresh, shape, pretrained=pretrained, side=side_of(shape[2], upsample))


def _model(name: str, shape: Shape) -> Any:
    from torchvision import models

    return models.get_model(name, num_classes=shape[0])


def _small(channels: int, usual: nn.Conv2d) -> nn.Conv2d:
    """The stem for small images, initialised as torchvision does."""
    conv = nn.Conv2d(channels, usual.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _whole(part: str, kind: Stem, pretrained: bool) -> None:
    """Raise RegistryError where pretrained weights meet another stem or head."""
    if pretrained and kind != "imagenet":
        raise told("pretrained", f"the pretrained weights are those of the imagenet {part}", f"add `{part}: imagenet`")


class SmallVGG(nn.Module):
    """VGG for small images: torchvision's names, but one pixel reaches the head's three layers, 512 units wide."""

    def __init__(self, features: nn.Module, classes: int) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        hidden = [nn.Linear(512, 512), nn.ReLU(True), nn.Dropout(0.5)]
        again = [nn.Linear(512, 512), nn.ReLU(True), nn.Dropout(0.5)]
        self.classifier = nn.Sequential(*hidden, *again, nn.Linear(512, classes))
        for module in self.modules():  # as torchvision does
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


def vgg(depth: int, shape: Shape, *, batch_norm: bool, head: Stem, pretrained: bool, upsample: int) -> nn.Module:
    """VGG of 11, 13, 16 or 19 layers; the `imagenet` head has 4096 hidden units twice, 120 million weights."""
    from torchvision.models.vgg import cfgs, make_layers

    name = f"vgg{depth}_bn" if batch_norm else f"vgg{depth}"
    _whole("head", head, pretrained)
    if head == "imagenet":
        return classifier(name, shape, pretrained=pretrained, upsample=upsample)
    letter = {11: "A", 13: "B", 16: "D", 19: "E"}[depth]

    def fresh() -> nn.Module:
        return SmallVGG(make_layers(cfgs[letter], batch_norm=batch_norm), shape[0])

    return _assembled(name, fresh, shape, pretrained=False, side=side_of(shape[2], upsample))


def transformer(shape: Shape, *, patch_size: int, pretrained: bool, upsample: int) -> nn.Module:
    """ViT-Base with patches that follow the images' size; positions of pretrained weights are interpolated."""
    from torchvision import models

    side = side_of(shape[2], upsample)
    patch = patch_of(side, patch_size)
    if pretrained and patch != 16:
        raise told("pretrained", f"the pretrained weights have patches of 16, not {patch}", "add `upsample: 224`")
    sizes = {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "mlp_dim": 3072, "num_classes": shape[0]}
    fresh = partial(models.VisionTransformer, side, patch, **sizes)
    return _assembled("vit_b_16", fresh, shape, pretrained=pretrained, side=side)


def _assembled(name: str, fresh: Callable[[], nn.Module], shape: Shape, *, pretrained: bool, side: int) -> nn.Module:
    """A fresh model that sees the images' channels and size, with pretrained weights if they are asked for."""

    def make() -> nn.Module:
        model = fresh()
        see_channels(model, shape[1])
        if pretrained:
            _load(model, name, shape[1], side)
        return model

    with fetching(name, lambda: Path(torch.hub.get_dir(), "checkpoints")):
        model = made(make, pretrained=pretrained)
    return finished(model, shape, side)


def _load(model: Any, name: str, channels: int, side: int) -> None:
    """Load torchvision's default weights into a model; a head for other classes stays new."""
    from torchvision import models

    source = models.get_model(name, weights="DEFAULT", progress=False)
    see_channels(source, channels)
    state = source.state_dict()
    if isinstance(model, models.VisionTransformer):
        state = models.vision_transformer.interpolate_embeddings(side, model.patch_size, state)
    if hasattr(source, "transform_input"):
        model.transform_input = source.transform_input and channels == 3
    own = model.state_dict()
    head = linear_layers(model)[-1][0] if linear_layers(model) else ""
    new = {key for key, tensor in own.items() if key.startswith(f"{head}.") and tensor.shape != state[key].shape}
    model.load_state_dict({key: own[key] if key in new else state[key] for key in own})
