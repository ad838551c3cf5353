"""Classifiers of torchvision."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sweep.plugins.architectures._zoo import (
    Shape,
    adapt_channels,
    build_network,
    check_name,
    check_patches,
    choose_patch_size,
    fetching_weights,
    finish,
    input_side,
    linear_layers,
    setting_error,
)

Stem = Literal["cifar", "imagenet"]


def classifier(name: str, shape: Shape, *, pretrained: bool, upsample: int) -> nn.Module:
    """A classifier of torchvision by its name, without auxiliary heads; transformers adapt to the images' size.

    Raises RegistryError for an unknown name, and for weights that cannot be downloaded.
    """
    from torchvision import models

    check_name("torchvision", name, models.list_models(module=models))
    side = input_side(shape[2], upsample)
    auxiliary = name in ("googlenet", "inception_v3")
    arguments: dict[str, Any] = {"aux_logits": False, "init_weights": True} if auxiliary else {}
    if name.startswith("vit"):
        check_patches(side, int(name.rpartition("_")[2]))
        arguments["image_size"] = side
    arguments |= {"input_size": (side, side)} if name.startswith("maxvit") else {}
    make_new = partial(models.get_model, name, num_classes=shape[0], **arguments)
    return assemble(name, make_new, shape, pretrained=pretrained, side=side)


def new_model(name: str, classes: int) -> Any:
    """A network of torchvision with new weights."""
    from torchvision import models

    return models.get_model(name, num_classes=classes)


def small_stem(channels: int, original: nn.Conv2d) -> nn.Conv2d:
    """A 3x3 convolution of stride 1 in the place of the first one, initialised as in torchvision."""
    conv = nn.Conv2d(channels, original.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def check_pretrained(part: str, kind: Stem, pretrained: bool) -> None:
    """Raise RegistryError if pretrained weights are wanted for another stem or head than that of ImageNet."""
    if pretrained and kind != "imagenet":
        what = f"the pretrained weights are those of the imagenet {part}"
        raise setting_error("pretrained", what, f"add `{part}: imagenet`")


def transformer(shape: Shape, *, patch_size: int, pretrained: bool, upsample: int) -> nn.Module:
    """ViT-Base whose patches adapt to the images' size; pretrained position embeddings are interpolated."""
    from torchvision import models

    side = input_side(shape[2], upsample)
    patch = choose_patch_size(side, patch_size)
    if pretrained and patch != 16:
        what = f"the pretrained weights have patches of 16, not {patch}"
        raise setting_error("pretrained", what, "add `upsample: 224`")
    sizes = {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "mlp_dim": 3072, "num_classes": shape[0]}
    make_new = partial(models.VisionTransformer, side, patch, **sizes)
    return assemble("vit_b_16", make_new, shape, pretrained=pretrained, side=side)


def assemble(name: str, make_new: Callable[[], nn.Module], shape: Shape, *, pretrained: bool, side: int) -> nn.Module:
    """The new model for the images' channels and size; `pretrained` loads the weights of `name`."""

    def make() -> nn.Module:
        model = make_new()
        adapt_channels(model, shape[1])
        if pretrained:
            _load(model, name, shape[1], side)
        return model

    with fetching_weights(name, lambda: Path(torch.hub.get_dir(), "checkpoints")):
        model = build_network(make, pretrained=pretrained)
    return finish(model, shape, side)


def _load(model: Any, name: str, channels: int, side: int) -> None:
    """Load torchvision's default weights; a head for another number of classes keeps its new weights."""
    from torchvision import models

    source = models.get_model(name, weights="DEFAULT", progress=False)
    adapt_channels(source, channels)
    state = source.state_dict()
    if isinstance(model, models.VisionTransformer):
        state = models.vision_transformer.interpolate_embeddings(side, model.patch_size, state)
    if hasattr(source, "transform_input"):
        model.transform_input = source.transform_input and channels == 3
    own = model.state_dict()
    head = linear_layers(model)[-1][0] if linear_layers(model) else ""
    new = {key for key, tensor in own.items() if key.startswith(f"{head}.") and tensor.shape != state[key].shape}
    model.load_state_dict({key: own[key] if key in new else state[key] for key in own})
