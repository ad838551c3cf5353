"""How many floating-point operations a network takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def forward_flops(model: nn.Module, images: Tensor) -> int | None:
    """Floating-point operations of a forward pass over images in evaluation mode, a multiply-add as two.

    Those of matrix products, convolutions and attention, as torch counts them; None where it cannot.
    """
    training = model.training
    try:
        with torch.enable_grad():  # or else attention is one kernel
            return _counted(model.eval(), images) or None
    except Exception:  # a user's architecture may raise anything
        return None
    finally:
        model.train(training)


def _counted(model: nn.Module, images: Tensor) -> int:
    """By our counter, or by torch's own where ours does not get through, as with control flow on tensors."""
    from torch.utils.flop_counter import FlopCounterMode, flop_registry  # not at once: they import Triton

    ours = _Operations(flop_registry)
    try:
        with ours:
            model(images)
    except Exception:
        with FlopCounterMode(display=False) as whole:
            model(images)
        return int(whole.get_total_flops())
    return ours.total


class _Operations(TorchDispatchMode):
    """Adds up what formulas say of each operation."""

    def __init__(self, formulas: Mapping[Any, Callable[..., int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.formulas, self.total = formulas, 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Or else torch imports its compiler, as its own counter does: 1.5 s and 125 MB of a driver."""
        return False

    def __torch_dispatch__(self, function: Any, kinds: Any, given: Any = (), named: Any = None) -> Any:
        """Carry out an operation, and count it."""
        named = named or {}
        found = function(*given, **named)
        if formula := self.formulas.get(function._overloadpacket):
            self.total += formula(*given, **named, out_val=found)
        return found
