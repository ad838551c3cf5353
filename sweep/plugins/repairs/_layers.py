"""The layers whose outputs a repair corrects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sweep.plugins.repairs._batch_norm import evaluating

_FORWARDS = (nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward, nn.Linear.forward, _BatchNorm.forward)
"""Layers that end in `weight * … + bias` per channel; one with a forward pass of its own may do something else."""

Hook = Callable[[nn.Module, Any, Tensor], Tensor | None]


@contextmanager
def hooked(hooks: Sequence[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Hooks on what layers put out."""
    handles = [layer.register_forward_hook(hook) for layer, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def channel_axis(layer: nn.Module) -> int:
    """Which axis of a layer's outputs its channels are on."""
    return -1 if isinstance(layer, nn.Linear) else 1


def correctable(model: nn.Module, images: Tensor) -> list[nn.Module]:
    """Batch norm, and linear and convolutional layers that do not go straight into it, without the head.

    Found by a pass of some images. A layer that is passed twice or not at all, or whose weight is another's, too, is
    none: one correction does not suit both. Raises ValueError for batch norm with a forward pass of its own, which may
    do more than normalise.
    """
    others = [m for m in model.modules() if isinstance(m, _BatchNorm) and type(m).forward not in _FORWARDS]
    if others:
        raise ValueError(f"`{type(others[0]).__name__}` is batch norm that does more, which REPAIR cannot correct")
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    holders = Counter(id(weight) for module in model.modules() for weight in module._parameters.values())
    able = [module for module in model.modules() if _is_able(module) and holders[id(module.weight)] == 1]
    passes, normalised = _followed(model, able, images)
    return [layer for layer in able if passes[layer] == 1 and layer not in normalised and layer is not head]


def _is_able(module: nn.Module) -> bool:
    """Whether a module holds a weight per output channel that can be multiplied in place."""
    return type(module).forward in _FORWARDS and isinstance(module._parameters.get("weight"), nn.Parameter)


def _followed(
    model: nn.Module, layers: Sequence[nn.Module], images: Tensor
) -> tuple[Counter[nn.Module], set[nn.Module]]:
    """How often each layer is passed, and those whose outputs batch norm is handed as they are."""
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # the outputs are held, so that no other takes their id
    passes, normalised = Counter[nn.Module](), set[nn.Module]()

    def follow(layer: nn.Module, inputs: Any, outputs: Tensor) -> None:
        passes[layer] += 1
        if isinstance(layer, _BatchNorm) and id(inputs[0]) in made:
            normalised.add(made[id(inputs[0])][0])
        made[id(outputs)] = layer, outputs

    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    with evaluating(model), hooked([(layer, follow) for layer in dict.fromkeys([*layers, *norms])]):
        model(images)
    return passes, normalised
