"""Running statistics of batch norm, estimated anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def norms_of(model: nn.Module) -> list[_BatchNorm]:
    """The layers of batch norm that keep running statistics."""
    found = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm in found if norm.running_mean is not None]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode and without gradients; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def estimating(model: nn.Module) -> Iterator[Callable[[Tensor], None]]:
    """Forget running statistics; each batch passed to what is yielded adds its own to them, by its size.

    Meanwhile batch norm normalises by the batch at hand, and all else is in evaluation mode. Momenta, counters and
    modes are as before when it ends.
    """
    norms, seen = norms_of(model), 0
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    counts = [None if counter is None else counter.clone() for _, _, counter in kept]

    def passed(images: Tensor) -> None:
        nonlocal seen
        seen += len(images)
        for norm in norms:
            norm.momentum = len(images) / seen
        model(images)

    with evaluating(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.training = True  # it alone: a dropout inside of it stays off
        try:
            yield passed
        finally:
            for (norm, momentum, counter), count in zip(kept, counts, strict=True):
                norm.momentum = momentum
                if counter is not None and count is not None:
                    counter.copy_(count)
