"""Floating-point operations of a forward pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def forward_flops(model: nn.Module, images: Tensor) -> int | None:
    """Floating-point operations of a forward pass over images in evaluation mode; a multiply-add counts as two.

    Matrix products, convolutions and attention are counted, as torch does; None if that fails.
    """
    training = model.training
    try:
        with torch.enable_grad():  # without gradients attention would be one fused kernel
            return _count(model.eval(), images) or None
    except Exception:  # a user's architecture may raise anything
        return None
    finally:
        model.train(training)


def _count(model: nn.Module, images: Tensor) -> int:
    """Count with our counter; where it fails (control flow on tensors, rare operations), with torch's."""
    counter = _FlopCounter()
    try:
        with counter:
            model(images)
    except Exception:
        from torch.utils.flop_counter import FlopCounterMode  # imports Triton and torch's compiler: 1.5 s and 200 MB

        with FlopCounterMode(display=False) as torch_counter:
            model(images)
        return int(torch_counter.get_total_flops())
    return counter.total


class _FlopCounter(TorchDispatchMode):
    """Adds up two operations for each multiply-add."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler."""
        return False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it. Raises LookupError if it multiplies and has no formula here."""
        result = function(*args, **(kwargs or {}))
        name = function._overloadpacket.__name__
        if name in MULTIPLY_ADDS:
            self.total += 2 * MULTIPLY_ADDS[name](result, *args)
        elif _MULTIPLIES.search(name):
            raise LookupError(name)
        return result


def _convolution(output: Tensor, _: object, weight: Tensor, *others: Any) -> int:
    """Multiply-adds of a convolution. Raises LookupError for a transposed one."""
    if others[4]:
        raise LookupError("transposed")
    return output.numel() * weight[0].numel()


def _attention(_: object, query: Tensor, key: Tensor, value: Tensor, *__: object) -> int:
    """Multiply-adds of queries with keys and of attention weights with values; all (…, tokens, width)."""
    return query[..., 0].numel() * key.shape[-2] * (key.shape[-1] + value.shape[-1])


_MULTIPLIES = re.compile("mm$|mm_|conv|attention")
MULTIPLY_ADDS: dict[str, Callable[..., int]] = {
    "mm": lambda output, a, *_: output.numel() * a.shape[-1],
    "bmm": lambda output, a, *_: output.numel() * a.shape[-1],
    "addmm": lambda output, _, a, *__: output.numel() * a.shape[-1],
    "baddbmm": lambda output, _, a, *__: output.numel() * a.shape[-1],
    "convolution": _convolution,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
}
