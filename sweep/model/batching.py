"""How many images at a time a network is handed, in which memory format: as told, or as was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from sweep.core.choice import PluginConfig
from sweep.core.dataset import Dataset
from sweep.core.ids import canonical_json
from sweep.model.build import build_member_model
from sweep.model.forward import forward_split
from sweep.model.runtime import setup_worker
from sweep.model.split import Batching, DeviceSplit, to_device

AUTO: Literal["auto"] = "auto"
RECORDED = "measured"
"""The key of run.json under which tunings are kept."""


class BatchTuning(NamedTuple):
    """The fastest way found, as run.json holds it."""

    images: int
    channels_last: bool | None
    images_per_second: float | None

    @property
    def batching(self) -> Batching:
        """The way itself."""
        return Batching(self.images, self.channels_last)

    def __str__(self) -> str:
        """For people."""
        last = "channels last" if self.channels_last else "channels first"
        return f"{self.images:,} images at a time, {last}: {self.images_per_second or 0:,.0f} images/s"


DEFAULT_TUNING = BatchTuning(128, None, None)  # of a network that nothing could be measured of


def network_key(architecture: PluginConfig, dataset: Dataset) -> str:
    """The network and the shape of its images, as run.json names them."""
    return canonical_json([architecture.name, architecture.id_content["settings"], *dataset.shape])


def choose_batching(batch: int | Literal["auto"], info: Mapping[str, Any], network: str) -> Batching:
    """What `execution.eval_batch_size` comes to for a network; what was measured stands in run.json."""
    if batch != AUTO:
        return Batching(batch)
    found = info.get("evaluation", {}).get(RECORDED, {}).get(network)
    return (BatchTuning(**found) if found else DEFAULT_TUNING).batching


_SIZES = tuple(2**power for power in range(5, 13))  # 32 to 4,096
_GAIN = 1.03  # larger batches take more memory, so they must be faster by so much
_LONG = 0.25  # seconds after which a size is not tried again, nor a larger one: what a batch costs is paid by then


def tune_batch(architecture: PluginConfig, seed: int, dataset: Dataset, threads: int, gpus: float) -> BatchTuning:
    """The smallest batch that is nearly as fast as any, in the memory format that is faster, on this device.

    Bits may depend on it, and it depends on the clock; so it is measured once in a run.
    """
    device = setup_worker(threads, gpus)
    model, split = build_member_model(architecture, dataset.shape, seed).to(device), to_device(dataset, "test", device)
    count = len(split.labels)
    sizes = [*(size for size in _SIZES if size < count), *([count] if count <= _SIZES[-1] else [])]
    found = {last: hill_climb(partial(_rate, model, split, last), sizes) for last in (True, False)}
    last = max(found, key=lambda each: found[each][1])
    return BatchTuning(found[last][0], last, found[last][1])


def hill_climb(rate_of: Callable[[int], float], sizes: Sequence[int]) -> tuple[int, float]:
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
            forward_split(model, part, Batching(size, channels_last)).logits.sum().item()  # which waits for the device
            spent.append(time.perf_counter() - begun)
    except torch.OutOfMemoryError:
        return 0.0
    return size / min(spent)
