"""How many floating-point operations a network takes."""

from __future__ import annotations

import re
from collections.abc import Callable
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
    """By our counter, or by torch's own where ours does not get through: control flow on tensors, rare operations."""
    ours = _Operations()
    try:
        with ours:
            model(images)
    except Exception:
        from torch.utils.flop_counter import FlopCounterMode  # imports Triton and torch's compiler: 1.5 s and 200 MB

        with FlopCounterMode(display=False) as whole:
            model(images)
        return int(whole.get_total_flops())
    return ours.total


class _Operations(TorchDispatchMode):
    """Adds up the multiply-adds of each operation, twice."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Or else torch imports its compiler."""
        return False

    def __torch_dispatch__(self, function: Any, kinds: Any, given: Any = (), named: Any = None) -> Any:
        """Carry out an operation, and count it. Raises LookupError where it multiplies and has no formula here."""
        found = function(*given, **(named or {}))
        name = function._overloadpacket.__name__
        if name in _MULTIPLY_ADDS:
            self.total += 2 * _MULTIPLY_ADDS[name](found, *given)
        elif _MULTIPLIES.search(name):
            raise LookupError(name)
        return found


def _convolution(found: Tensor, _: object, weight: Tensor, *more: Any) -> int:
    """Raises LookupError for transposed ones."""
    if more[4]:
        raise LookupError("transposed")
    return found.numel() * weight[0].numel()


def _attention(_: object, query: Tensor, key: Tensor, value: Tensor, *__: object) -> int:
    """Products of queries and keys, and of what comes of them and values; all (…, tokens, width)."""
    return query[..., 0].numel() * key.shape[-2] * (key.shape[-1] + value.shape[-1])


_MULTIPLIES = re.compile("mm$|mm_|conv|attention")
_MULTIPLY_ADDS: dict[str, Callable[..., int]] = {
    "mm": lambda found, a, *_: found.numel() * a.shape[-1],
    "bmm": lambda found, a, *_: found.numel() * a.shape[-1],
    "addmm": lambda found, _, a, *__: found.numel() * a.shape[-1],
    "baddbmm": lambda found, _, a, *__: found.numel() * a.shape[-1],
    "convolution": _convolution,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
}
