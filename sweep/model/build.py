"""Builds the network of an architecture: with weights drawn by a seed, or on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sweep.core.choice import PluginConfig
from sweep.core.weights import ParameterLayout
from sweep.model.layout import find_head, make_layout


@contextmanager
def fork_rng(seed: int) -> Iterator[None]:
    """Torch's global generators seeded inside and as before outside: initialisation and dropout know no other."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # asking for a state begins it
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def build(architecture: Callable[..., nn.Module], shape: tuple[int, int, int], seed: int, **settings: Any) -> nn.Module:
    """A freshly initialised model for (classes, channels, size), the same for the same seed."""
    with fork_rng(seed):
        return architecture(*shape, **settings).float()


def build_on_meta(
    architecture: Callable[..., nn.Module],
    shape: tuple[int, int, int],
    settings: Mapping[str, Any],
    *,
    pretrained: bool = False,
) -> nn.Module:
    """A model for (classes, channels, size) that has shapes and no weights.

    Pretrained weights must be here where settings ask for them and `pretrained` says so, too.
    """
    plain = {} if pretrained or "pretrained" not in settings else {"pretrained": False}
    with torch.device("meta"):
        return architecture(*shape, **{**settings, **plain})


def reset_head(model: nn.Module, classes: int, seed: int) -> None:
    """Draw the head anew, as torch draws a linear layer, whatever the architecture begins with there."""
    head = model.get_submodule(find_head(model, classes))
    assert isinstance(head, nn.Linear)
    with fork_rng(seed):
        head.reset_parameters()


def build_member_model(architecture: PluginConfig, shape: tuple[int, int, int], seed: int) -> nn.Module:
    """A model for (classes, channels, size) with the initial weights that the seed draws."""
    return build(architecture.plugin.function, shape, seed, **architecture.settings)


def layout_on_meta(
    architecture: PluginConfig, shape: tuple[int, int, int], *, pretrained: bool = True
) -> ParameterLayout:
    """The layout of networks for (classes, channels, size), none of which is given memory.

    Pretrained weights must be here where they are asked for, unless `pretrained` is false. Raises what the
    architecture raises.
    """
    function, settings = architecture.plugin.function, architecture.settings
    return make_layout(build_on_meta(function, shape, settings, pretrained=pretrained), shape[0])
