"""Helpers for networks of torchvision and timm: names, channels, image sizes, and pretrained weights."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional

from sweep.core.registry import RegistryError
from sweep.core.text import did_you_mean

Side = Annotated[int, Ge(0), Le(4096)]  # pixels; 0 leaves the choice to the architecture
Shape: TypeAlias = tuple[int, int, int]  # classes, channels, size


def setting_error(setting: str, what: str, hint: str) -> RegistryError:
    """The error for one setting that does not fit."""
    return RegistryError([((setting,), what, hint)])


def check_name(library: str, name: str, listed: Sequence[str]) -> None:
    """Raise RegistryError, with similar names, if the library does not list `name`."""
    if name in listed:
        return
    longer = sorted((other for other in listed if other.startswith(name)), key=lambda other: (len(other), other))
    near = "did you mean " + " or ".join(f"`{other}`" for other in longer[:3]) + "?"
    hint = near if name and longer else did_you_mean(name, listed)
    raise setting_error("name", f"no `{name}` in {library}", hint)


def input_side(size: int, upsample: int) -> int:
    """Side of the images that reach the first layer, in pixels. Raises RegistryError if `upsample` is below `size`."""
    if 0 < upsample < size:
        what = f"`upsample: {upsample}` is below the images' size {size}"
        raise setting_error("upsample", what, "make the data set smaller")
    return upsample or size


def choose_patch_size(side: int, patch_size: int) -> int:
    """Side of a vision transformer's patches: 16, or for smaller images the divisor that gives about 8 x 8 patches.

    Raises RegistryError if a given `patch_size` does not divide the side.
    """
    if patch_size and side % patch_size:
        what = f"patches of {patch_size} do not fill images of size {side}"
        raise setting_error("patch_size", what, "expected a divisor of the size")
    most = max(1, min(16, side // 8))
    return patch_size or max(patch for patch in range(1, most + 1) if side % patch == 0)


def check_patches(side: int, patch: int) -> None:
    """Raise RegistryError if patches leave out a margin of the images, or are larger than the images."""
    if side % patch:
        what = f"patches of {patch} do not fill images of size {side}"
        raise setting_error("upsample", what, f"`upsample: {-(-side // patch) * patch}` does")


@dataclass(frozen=True)
class Resize:
    """A forward pre-hook that resizes images bilinearly; the names of the network's tensors do not change."""

    side: int

    def __call__(self, model: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        """(examples, channels, size, size) -> (examples, channels, side, side)."""
        return functional.interpolate(inputs[0], size=(self.side, self.side), mode="bilinear", align_corners=False)


def linear_layers(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Linear layers with their names; the head is the last."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def adapt_channels(model: nn.Module, channels: int) -> None:
    """Change the first convolution to `channels` input channels: for 1 the filters are summed, for more repeated.

    A grey image then gives the outputs that its RGB copy gave, and pretrained filters are kept; repeated filters are
    scaled by the ratio of channels.
    """
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    before = first.in_channels
    if before == channels:
        return
    weight = first.weight.detach()
    index = torch.arange(channels, device=weight.device) % before
    adapted = weight.sum(1, keepdim=True) if channels == 1 else weight[:, index] * (before / channels)
    first.in_channels = channels
    first.weight = nn.Parameter(adapted)


def build_network(make: Callable[[], nn.Module], *, pretrained: bool) -> nn.Module:
    """The network that `make` builds, on torch's default device.

    Tensors on the `meta` device have no values. Two kinds of builders need values: those that load weights from files,
    and those that read elements of tensors, for which torch raises NotImplementedError. They build the network on the
    CPU, from where it is moved.
    """
    device = torch.get_default_device()
    if device.type != "meta":
        return make()
    if not pretrained:
        with suppress(NotImplementedError):  # raised by torch if `make` reads elements of a meta tensor
            return make()
    with torch.device("cpu"), torch.random.fork_rng(devices=()):
        return make().to(device)


@contextmanager
def fetching_weights(name: str, folder: Callable[[], str | Path]) -> Iterator[None]:
    """Raise RegistryError if pretrained weights are neither in the library's folder nor can be downloaded."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # it logs each of twelve retries
    try:
        yield
    except OSError as error:
        cause = textwrap.shorten(str(error.__cause__ or error), 120)
        what = f"the pretrained weights of `{name}` are not in {folder()} and cannot be fetched: {cause}"
        hint = "fetch them once where there is a network and copy that folder, or write `pretrained: false`"
        raise setting_error("pretrained", what, hint) from None
    finally:
        log.setLevel(level)


def finish(model: nn.Module, shape: Shape, side: int) -> nn.Module:
    """The model, with a hook that resizes images to `side`."""
    if side != shape[2]:
        model.register_forward_pre_hook(Resize(side))
    return model
