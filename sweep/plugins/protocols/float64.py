"""Evaluation in double precision, to see what an overflow hides."""

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
    """Every forward pass, also of greedy searches, is in double precision and on the first `examples` images only.

    Weights that overflow in single precision may not overflow here. The script of arXiv 2411.09263 multiplies 19 layers
    by 100, beyond the range of float32, and counts the result as an accuracy.
    """
    floats = [each for each in itertools.chain(model.parameters(), model.buffers()) if each.is_floating_point()]
    originals = [(tensor, tensor.data) for tensor in floats]
    for tensor, single in originals:
        tensor.data = single.double()
    handle = model.register_forward_pre_hook(_to_double)
    try:
        yield ForwardOptions(max_examples=examples)
    finally:
        handle.remove()
        for tensor, single in originals:
            tensor.data = single


def _to_double(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.double() if isinstance(each, Tensor) else each for each in inputs)
