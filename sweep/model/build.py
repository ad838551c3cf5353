"""Builds the network of an architecture, with seeded weights or on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sweep.core.choice import PluginConfig
from sweep.core.errors import UserError
from sweep.core.weights import ParameterLayout
from sweep.model.layout import find_head, make_layout
from sweep.model.trial import TrialError, check_tensors, try_on_meta, try_with_values

_LARGEST_TRIAL = 2 * 1024**3
"""Bytes of a user's own network beyond which it is not tried with values: check should fit every machine."""


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

    With `pretrained`, pretrained weights that the settings request must be on this machine. A network that reads values
    while it is built is built on the CPU.
    """
    chosen = _without_pretrained(settings, pretrained)
    try:
        with torch.device("meta"):
            return architecture(*shape, **chosen)
    except UserError:
        raise
    except Exception:  # what torch raises where values are read differs by operation
        return build(architecture, shape, 0, **chosen).to("meta")


def _without_pretrained(settings: Mapping[str, Any], pretrained: bool) -> dict[str, Any]:
    """The settings, with new weights in place of pretrained ones unless these are wanted."""
    return {**settings, **({} if pretrained or "pretrained" not in settings else {"pretrained": False})}


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
    """The layout of a network for (classes, channels, size), after a trial forward pass.

    With `pretrained`, pretrained weights that the settings request must be on this machine. Raises what the
    architecture raises, and TrialError for a network that cannot be trained, evaluated or merged.
    """
    function = architecture.plugin.function
    settings = _without_pretrained(architecture.settings, pretrained)
    model = build_on_meta(function, shape, settings)
    try:
        _try(architecture, model, shape, settings)
    except TrialError as error:
        hint = "`upsample` makes them larger" if "cannot take" in str(error) and "upsample" in settings else error.hint
        raise TrialError(str(error), hint) from None
    return make_layout(model, shape[0])


def _try(
    architecture: PluginConfig, model: nn.Module, shape: tuple[int, int, int], settings: Mapping[str, Any]
) -> None:
    """Try a network, with values if it is a user's own. Raises TrialError."""
    is_own = ":" in architecture.name and isinstance(model, nn.Module)
    if not is_own or sum(tensor.nbytes for tensor in model.state_dict().values()) > _LARGEST_TRIAL:
        try_on_meta(model, shape)
        return
    check_tensors(model)
    with fork_rng(0):
        try_with_values(build(architecture.plugin.function, shape, 0, **settings), shape)
