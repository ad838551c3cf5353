"""Builds the network of an architecture, with seeded weights or on the meta device."""

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
    """Seed torch's global generators, which initialisation and dropout use, and restore them afterwards."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # a state would start CUDA
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def build(architecture: Callable[..., nn.Module], shape: tuple[int, int, int], seed: int, **settings: Any) -> nn.Module:
    """A newly initialised float32 model for (classes, channels, size); equal seeds give equal weights."""
    with fork_rng(seed):
        return architecture(*shape, **settings).float()


def build_on_meta(
    architecture: Callable[..., nn.Module],
    shape: tuple[int, int, int],
    settings: Mapping[str, Any],
    *,
    pretrained: bool = False,
) -> nn.Module:
    """A model for (classes, channels, size) on the meta device: shapes without weights.

    With `pretrained`, pretrained weights that the settings request must be on this machine.
    """
    overrides = {} if pretrained or "pretrained" not in settings else {"pretrained": False}
    with torch.device("meta"):
        return architecture(*shape, **{**settings, **overrides})


def reset_head(model: nn.Module, classes: int, seed: int) -> None:
    """Initialise the head as torch initialises a linear layer, whatever the architecture does there."""
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
    """The layout of a network for (classes, channels, size), built on the meta device.

    With `pretrained`, pretrained weights that the settings request must be on this machine. Raises what the
    architecture raises.
    """
    function = architecture.plugin.function
    settings = architecture.settings
    return make_layout(build_on_meta(function, shape, settings, pretrained=pretrained), shape[0])
