"""Forward hooks as context managers: they are removed when the block ends, after an error too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Hook = Callable[[nn.Module, Any, Tensor], Tensor | None]
"""Called with a module, its inputs and its output; what it returns, if anything, replaces the output."""


@contextmanager
def forward_hooks(hooks: Sequence[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Register forward hooks on several modules."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def capture_inputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the first input of every forward pass of a module, in order."""
    captured: list[Tensor] = []
    with forward_hooks([(module, lambda _, inputs, __: captured.append(inputs[0]))]):
        yield captured


@contextmanager
def capture_outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the output of every forward pass of a module, in order."""
    captured: list[Tensor] = []
    with forward_hooks([(module, lambda _, __, output: captured.append(output))]):
        yield captured
