"""What builders of published networks share: names, channels, image sizes, weights, and a try on paper."""

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


def told(setting: str, what: str, hint: str) -> RegistryError:
    """The error for one setting that does not fit."""
    return RegistryError([((setting,), what, hint)])


def known(library: str, name: str, listed: Sequence[str]) -> None:
    """Raise RegistryError, with the nearest names, for one that the library does not list."""
    if name in listed:
        return
    longer = sorted((other for other in listed if other.startswith(name)), key=lambda other: (len(other), other))
    near = "did you mean " + " or ".join(f"`{other}`" for other in longer[:3]) + "?"
    raise told("name", f"no `{name}` in {library}", near if name and longer else did_you_mean(name, list(listed)))


def side_of(size: int, upsample: int) -> int:
    """Size of the images that reach the first layer. Raises RegistryError where they would shrink."""
    if 0 < upsample < size:
        raise told("upsample", f"`upsample: {upsample}` is below the images' size {size}", "make the data set smaller")
    return upsample or size


def patch_of(side: int, patch_size: int) -> int:
    """Side of a vision transformer's patches: 16, or for smaller images what makes about 8 x 8 of them.

    Raises RegistryError for a given one that does not divide the side.
    """
    if patch_size and side % patch_size:
        raise told("patch_size", f"patches of {patch_size} do not fill images of size {side}", "a divisor is due")
    most = max(1, min(16, side // 8))
    return patch_size or max(patch for patch in range(1, most + 1) if side % patch == 0)


def fill(side: int, patch: int) -> None:
    """Raise RegistryError where patches leave out a margin of the images, or do not fit at all."""
    if side % patch:
        what = f"patches of {patch} do not fill images of size {side}"
        raise told("upsample", what, f"`upsample: {-(-side // patch) * patch}` does")


@dataclass(frozen=True)
class Resize:
    """A forward pre-hook that resizes images bilinearly: the names of the network's tensors stay as they are."""

    side: int

    def __call__(self, model: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        """(examples, channels, size, size) -> (examples, channels, side, side)."""
        return functional.interpolate(inputs[0], size=(self.side, self.side), mode="bilinear", align_corners=False)


def linear_layers(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Linear layers with their names, the head last."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def see_channels(model: nn.Module, channels: int) -> None:
    """Make the first convolution see that many channels: 1 sums the filters of red, green and blue, more repeat them.

    So a grey image gives what its RGB copy gave, and pretrained filters are kept; scaled by the number of channels.
    """
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    before = first.in_channels
    if before == channels:
        return
    weight = first.weight.detach()
    index = torch.arange(channels, device=weight.device) % before
    seen = weight.sum(1, keepdim=True) if channels == 1 else weight[:, index] * (before / channels)
    first.in_channels, first.weight = channels, nn.Parameter(seen)


def made(make: Callable[[], nn.Module], *, pretrained: bool) -> nn.Module:
    """What `make` makes, on torch's default device.

    Where that is `meta`, tensors have no numbers: what reads weights from files, and builders that read numbers from
    tensors (torch raises NotImplementedError then), are given memory for a moment instead.
    """
    device = torch.get_default_device()
    if device.type != "meta":
        return make()
    if not pretrained:
        with suppress(NotImplementedError):  # of torch, for a builder that reads numbers: it is made in memory below
            return make()
    with torch.device("cpu"), torch.random.fork_rng(devices=()):
        return make().to(device)


@contextmanager
def fetching(name: str, folder: Callable[[], str | Path]) -> Iterator[None]:
    """Raise RegistryError where the weights of a network are neither in the folder of a library nor to be had."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # it tells each of twelve retries
    try:
        yield
    except OSError as error:
        cause = textwrap.shorten(str(error.__cause__ or error), 120)
        what = f"the pretrained weights of `{name}` are not in {folder()} and cannot be fetched: {cause}"
        hint = "fetch them once where there is a network and copy that folder, or say `pretrained: false`"
        raise told("pretrained", what, hint) from None
    finally:
        log.setLevel(level)


def finished(model: nn.Module, shape: Shape, side: int) -> nn.Module:
    """The model, which resizes images to `side`; tried here if it is on paper, as it is before every sweep."""
    if side != shape[2]:
        model.register_forward_pre_hook(Resize(side))
    if next(model.parameters()).is_meta:
        _try(model, shape)
    return model


@torch.inference_mode()
def _try(model: nn.Module, shape: Shape) -> None:
    """Raise RegistryError where images of that shape do not pass, or the output is not that of one linear head."""
    _, channels, size = shape
    kind, layers, heard = type(model).__name__, linear_layers(model), list[Tensor]()
    handles = [layer.register_forward_hook(lambda _m, _i, output: heard.append(output)) for _, layer in layers[-1:]]
    training = model.training
    try:
        output = model.eval()(torch.empty(2, channels, size, size, device="meta"))
    except Exception as error:  # each library has its own way to say so
        reason = textwrap.shorten(str(error), 160)
        what = f"{kind} cannot take images of size {size}: {reason}"
        raise told("upsample", what, "`upsample` makes them larger") from None
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    if not any(output is each for each in heard):
        what = f"{kind} does not end in one linear layer: its head is a convolution, or there are several"
        raise told("name", what, "features are the input of one linear head: take a network that has it")
