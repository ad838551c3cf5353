"""Batch size and memory format of evaluation: set by the user, or tuned on the device."""

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
"""The key of run.json under which results of the tuning are recorded."""


class BatchTuning(NamedTuple):
    """The fastest batch size and memory format, as recorded in run.json."""

    images: int
    channels_last: bool | None
    images_per_second: float | None

    @property
    def batching(self) -> Batching:
        """Batch size and memory format."""
        return Batching(self.images, self.channels_last)

    def __str__(self) -> str:
        """One line for the terminal."""
        last = "channels last" if self.channels_last else "channels first"
        return f"{self.images:,} images at a time, {last}: {self.images_per_second or 0:,.0f} images/s"


DEFAULT_TUNING = BatchTuning(128, None, None)  # of a network that could not be measured


def network_key(architecture: PluginConfig, dataset: Dataset) -> str:
    """The key of a network and its image shape in run.json."""
    return canonical_json([architecture.name, architecture.id_content["settings"], *dataset.shape])


def choose_batching(batch: int | Literal["auto"], info: Mapping[str, Any], network: str) -> Batching:
    """The batching of a network for `execution.eval_batch_size`; for `auto` the one recorded in run.json."""
    if batch != AUTO:
        return Batching(batch)
    found = info.get("evaluation", {}).get(RECORDED, {}).get(network)
    return (BatchTuning(**found) if found else DEFAULT_TUNING).batching


_SIZES = tuple(2**power for power in range(5, 13))  # 32 to 4,096
_GAIN = 1.03  # larger batches take more memory, so each must be 3% faster
_LONG = 0.25  # seconds per batch beyond which neither this size is repeated nor a larger one tried


def tune_batch(architecture: PluginConfig, seed: int, dataset: Dataset, threads: int, gpus: float) -> BatchTuning:
    """The smallest batch size that is nearly as fast as any larger one, in the faster memory format, on this device.

    The last bits of results may depend on it, and it depends on timings; so it is tuned once per run.
    """
    device = setup_worker(threads, gpus)
    model = build_member_model(architecture, dataset.shape, seed).to(device)
    split = to_device(dataset, "test", device)
    count = len(split.labels)
    sizes = [*(size for size in _SIZES if size < count), *([count] if count <= _SIZES[-1] else [])]
    found = {last: hill_climb(partial(_rate, model, split, last), sizes) for last in (True, False)}
    last = max(found, key=lambda each: found[each][1])
    return BatchTuning(found[last][0], last, found[last][1])


def hill_climb(rate_of: Callable[[int], float], sizes: Sequence[int]) -> tuple[int, float]:
    """Largest size that was at least 3% faster than the best smaller one, and its images per second.

    Sizes ascend; one step without gain is tolerated.
    """
    best = sizes[0]
    highest = rate_of(best)
    for size in sizes[1:]:
        if size > 4 * best or best > _LONG * highest:
            break
        rate = rate_of(size)
        if rate >= _GAIN * highest:
            best = size
            highest = rate
    return best, highest


def _rate(model: nn.Module, split: DeviceSplit, channels_last: bool, size: int) -> float:
    """Images per second in the fastest pass over one batch; 0 if it does not fit in memory."""
    batch = replace(split, images=split.images[:size], labels=split.labels[:size])
    seconds: list[float] = []
    try:
        while len(seconds) < 2 or (len(seconds) < 5 and sum(seconds) < _LONG):
            started = time.perf_counter()
            forward_split(model, batch, Batching(size, channels_last)).logits.sum().item()  # waits for the device
            seconds.append(time.perf_counter() - started)
    except torch.OutOfMemoryError:
        return 0.0
    return size / min(seconds)
