"""Classifiers of timm."""

from __future__ import annotations

from typing import Any

from torch import nn

from sweep.plugins.architectures._zoo import (
    Shape,
    build_network,
    check_name,
    check_patches,
    fetching_weights,
    finish,
    input_side,
    setting_error,
)


def classifier(name: str, shape: Shape, *, pretrained: bool, upsample: int, patch_size: int = 0) -> nn.Module:
    """A network of timm by its name, with or without the tag of its weights; transformers adapt to the images' size.

    Raises RegistryError for an unknown name, and for weights that do not exist or cannot be downloaded.
    """
    import timm

    check_name("timm", name, timm.list_models(pretrained=True) if "." in name else timm.list_models())
    if pretrained and not timm.is_model_pretrained(name):
        hint = "`timm.list_pretrained()` lists those that have"
        raise setting_error("pretrained", f"timm has no weights for `{name}`", hint)
    classes, channels, size = shape
    side = input_side(size, upsample)
    config = timm.get_pretrained_cfg(name)
    arguments: dict[str, Any] = {"patch_size": patch_size} if patch_size else {}
    if config is not None and config.fixed_input_size and config.input_size[-1] != side:
        arguments["img_size"] = side

    def make() -> nn.Module:
        model: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=classes, in_chans=channels, **arguments
        )
        return model

    with fetching_weights(name, _weights_folder):
        model = build_network(make, pretrained=pretrained)
    check_patches(side, _patch_size(model))
    return finish(model, shape, side)


def _weights_folder() -> str:
    """The folder in which timm keeps weights."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def _patch_size(model: nn.Module) -> int:
    """Side of the patches into which the first layer cuts images; 1 if it does not."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    patch = patch[0] if isinstance(patch, tuple) else patch
    return patch if isinstance(patch, int) else 1
