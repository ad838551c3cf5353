"""The fastest way to hand images to a network on this device, by a short measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from sweep.batching import Measured
from sweep.data import Dataset
from sweep.evaluate import Batching, DeviceSplit, outputs, to_device
from sweep.lineage import Member
from sweep.models import steady
from sweep.pools import new_model

_SIZES = tuple(2**power for power in range(5, 13))  # 32 to 4,096
_GAIN = 1.03  # larger batches take more memory, so they must be faster by so much
_LONG = 0.25  # seconds after which a size is not tried again, nor a larger one: what a batch costs is paid by then


def fastest(member: Member, dataset: Dataset, threads: int, gpus: float) -> Measured:
    """The smallest batch that is nearly as fast as any, in the memory format that is faster, on this device.

    Bits may depend on it, and it depends on the clock; so it is measured once in a run.
    """
    device = steady(threads, gpus)
    model, split = new_model(member, dataset).to(device), to_device(dataset, "test", device)
    count = len(split.labels)
    sizes = [*(size for size in _SIZES if size < count), *([count] if count <= _SIZES[-1] else [])]
    found = {last: climbed(partial(_rate, model, split, last), sizes) for last in (True, False)}
    last = max(found, key=lambda each: found[each][1])
    return Measured(found[last][0], last, found[last][1])


def climbed(rate_of: Callable[[int], float], sizes: Sequence[int]) -> tuple[int, float]:
    """The last of ascending sizes that paid, and its images per second; one that does not is passed over once."""
    best, highest = sizes[0], rate_of(sizes[0])
    for size in sizes[1:]:
        if size > 4 * best or best > _LONG * highest:
            break
        rate = rate_of(size)
        if rate >= _GAIN * highest:
            best, highest = size, rate
    return best, highest


def _rate(model: nn.Module, split: DeviceSplit, channels_last: bool, size: int) -> float:
    """Images per second, of the fastest pass over one batch; none where memory is too small."""
    part, spent = replace(split, images=split.images[:size], labels=split.labels[:size]), list[float]()
    try:
        while len(spent) < 2 or (len(spent) < 5 and sum(spent) < _LONG):
            begun = time.perf_counter()
            outputs(model, part, Batching(size, channels_last)).logits.sum().item()  # which waits for the device
            spent.append(time.perf_counter() - begun)
    except torch.OutOfMemoryError:
        return 0.0
    return size / min(spent)
