"""The layers whose outputs a repair corrects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sweep.core.batch_norm import evaluating
from sweep.core.capture import forward_hooks

_FORWARDS = (nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward, nn.Linear.forward, _BatchNorm.forward)
"""Layers that end in `weight * … + bias` per channel; a subclass with its own `forward` may do something else."""


def channel_axis(layer: nn.Module) -> int:
    """The axis of a layer's outputs that holds its channels."""
    return -1 if isinstance(layer, nn.Linear) else 1


def correctable(model: nn.Module, images: Tensor) -> list[nn.Module]:
    """The batch norm layers, and the linear and convolutional layers without batch norm behind them, but not the head.

    They are found by a forward pass of `images`. Layers that run twice or never, or share their weight, are left out:
    one correction would not fit both uses. Raises ValueError for a subclass of batch norm with its own `forward`, which
    may do more than normalise.
    """
    others = [m for m in model.modules() if isinstance(m, _BatchNorm) and type(m).forward not in _FORWARDS]
    if others:
        raise ValueError(f"`{type(others[0]).__name__}` is batch norm that does more, which REPAIR cannot correct")
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    holders = Counter(id(weight) for module in model.modules() for weight in module._parameters.values())
    able = [module for module in model.modules() if _is_scalable(module) and holders[id(module.weight)] == 1]
    passes, normalised = _trace_layers(model, able, images)
    return [layer for layer in able if passes[layer] == 1 and layer not in normalised and layer is not head]


def _is_scalable(module: nn.Module) -> bool:
    """Whether a module holds a weight per output channel that can be multiplied in place."""
    return type(module).forward in _FORWARDS and isinstance(module._parameters.get("weight"), nn.Parameter)


def _trace_layers(
    model: nn.Module, layers: Sequence[nn.Module], images: Tensor
) -> tuple[Counter[nn.Module], set[nn.Module]]:
    """How often each layer runs, and the layers whose outputs go straight into batch norm."""
    producers: dict[int, tuple[nn.Module, Tensor]] = {}  # keeps outputs alive, so that ids stay unique
    passes = Counter[nn.Module]()
    normalised = set[nn.Module]()

    def follow(layer: nn.Module, inputs: Any, outputs: Tensor) -> None:
        passes[layer] += 1
        if isinstance(layer, _BatchNorm) and id(inputs[0]) in producers:
            normalised.add(producers[id(inputs[0])][0])
        producers[id(outputs)] = layer, outputs

    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    with evaluating(model), forward_hooks([(layer, follow) for layer in dict.fromkeys([*layers, *norms])]):
        model(images)
    return passes, normalised
