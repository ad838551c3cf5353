"""Classifiers of timm."""

from __future__ import annotations

from typing import Any

from torch import nn

from sweep.plugins.architectures._zoo import Shape, fetching, fill, finished, known, made, side_of, told


def classifier(name: str, shape: Shape, *, pretrained: bool, upsample: int, patch_size: int = 0) -> nn.Module:
    """A network of timm by its name, with or without the tag of its weights; transformers follow the images' size.

    Raises RegistryError for an unknown name, and for weights that do not exist or cannot be had.
    """
    import timm

    known("timm", name, timm.list_models(pretrained=True) if "." in name else timm.list_models())
    if pretrained and not timm.is_model_pretrained(name):
        raise told("pretrained", f"timm has no weights for `{name}`", "`timm.list_pretrained()` lists those that have")
    classes, channels, size = shape
    side = side_of(size, upsample)
    usual = timm.get_pretrained_cfg(name)
    arguments: dict[str, Any] = {"patch_size": patch_size} if patch_size else {}
    if usual is not None and usual.fixed_input_size and usual.input_size[-1] != side:
        arguments["img_size"] = side

    def make() -> nn.Module:
        model: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=classes, in_chans=channels, **arguments
        )
        return model

    with fetching(name, _folder):
        model = made(make, pretrained=pretrained)
    fill(side, _patch(model))
    return finished(model, shape, side)


def _folder() -> str:
    """Where timm keeps weights."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def _patch(model: nn.Module) -> int:
    """Side of the patches into which the first layer cuts images; 1 where it does not."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    patch = patch[0] if isinstance(patch, tuple) else patch
    return patch if isinstance(patch, int) else 1
