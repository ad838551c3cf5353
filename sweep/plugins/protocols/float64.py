"""The counterfactual of an overflow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor, nn

from sweep.core.forward_options import ForwardOptions


@contextmanager
def float64(model: nn.Module, *, examples: Annotated[int, Ge(1)] = 500) -> Iterator[ForwardOptions]:
    """Every pass, of searches too, in double precision on the first examples: what overflows in single may not here.

    The script of arXiv 2411.09263 multiplies 19 layers by 100, beyond what float32 holds, and counts the outcome.
    """
    floats = [each for each in itertools.chain(model.parameters(), model.buffers()) if each.is_floating_point()]
    kept = [(tensor, tensor.data) for tensor in floats]
    for tensor, single in kept:
        tensor.data = single.double()
    handle = model.register_forward_pre_hook(_doubled)
    try:
        yield ForwardOptions(max_examples=examples)
    finally:
        handle.remove()
        for tensor, single in kept:
            tensor.data = single


def _doubled(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.double() if isinstance(each, Tensor) else each for each in inputs)
