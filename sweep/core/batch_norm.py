"""Re-estimates running statistics of batch norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def tracking_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norm layers that keep running statistics."""
    found = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm in found if norm.running_mean is not None]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, without gradients; afterwards each module is in its earlier mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def estimating(model: nn.Module, chosen: Sequence[_BatchNorm] | None = None) -> Iterator[Callable[[Tensor], None]]:
    """Reset running statistics, and yield a function that adds those of a batch of images, weighted by its size.

    Those of the `chosen` layers, or of all; the others normalise by the statistics they have.

    Meanwhile batch norm normalises by the batch, and all else is in evaluation mode. Momenta, counters and modes are
    restored at the end.
    """
    norms = tracking_norms(model) if chosen is None else chosen
    seen = 0
    originals = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    counts = [None if counter is None else counter.clone() for _, _, counter in originals]

    def add_batch(images: Tensor) -> None:
        nonlocal seen
        seen += len(images)
        for norm in norms:
            norm.momentum = len(images) / seen
        model(images)

    with evaluating(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.training = True  # not `train()`: a dropout inside of it stays off
        try:
            yield add_batch
        finally:
            for (norm, momentum, counter), count in zip(originals, counts, strict=True):
                norm.momentum = momentum
                if counter is not None and count is not None:
                    counter.copy_(count)
