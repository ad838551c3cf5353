"""One split of a data set on a device, handed out in normalised batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sweep.core.dataset import Dataset, Images
from sweep.core.forward_options import ForwardOptions
from sweep.core.ids import derive_seed


class SharedImages:
    """Images that other processes read too, in shared memory or a mapped file: what is taken out of them is a copy.

    numpy refuses to write to them, and torch would not.
    """

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        if isinstance(chosen, slice):
            return torch.from_numpy(np.array(self._images[chosen]))
        return torch.from_numpy(np.take(self._images, chosen.numpy(), axis=0))


class Batching(NamedTuple):
    """So many images at a time, and whether channels come last in memory.

    Where that is not said they do so on a CPU: convolutions without gradients are up to twice as fast.
    """

    batch_size: int
    channels_last: bool | None = None


@dataclass(frozen=True)
class DeviceSplit:
    """One split for the device: images as uint8, labels, and the normalisation."""

    images: Tensor | SharedImages  # (examples, channels, size, size), uint8
    labels: Tensor  # (examples,), int64
    mean: Tensor  # (channels, 1, 1), in units of pixel values
    std: Tensor

    def batches(self, size: int) -> Iterator[Tensor]:
        """Normalised images in their order, `size` at a time."""
        for start in range(0, len(self.labels), size):
            yield self.normalize(self.images[start : start + size])

    def iter_batches(self, told: ForwardOptions, batching: Batching) -> Iterator[Tensor]:
        """Normalised images as a pass asks for them, as many at a time as the batching says where the pass does not."""
        on_cpu, last = self.labels.device.type == "cpu", batching.channels_last
        layout = torch.channels_last if (on_cpu if last is None else last) else torch.contiguous_format
        size, count = (
            told.batch_size or batching.batch_size,
            min(told.max_examples or len(self.labels), len(self.labels)),
        )
        starts = [start for start in range(0, count, size) if not start or count - start >= told.min_batch_size]
        for start, stop in zip(starts, [*starts[1:], count], strict=True):
            yield self.normalize(self.images[start:stop]).contiguous(memory_format=layout)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 pixels to what the networks see; in one piece of memory, which takes a third of the time."""
        return images.to(torch.float32, copy=True).sub_(self.mean).div_(self.std)


def to_device(dataset: Dataset, split: str, device: torch.device) -> DeviceSplit:
    """A split of a data set on a device; on the CPU, images that processes share stay where they are."""
    part = dataset.splits[split]
    scale = [torch.tensor(values, device=device).mul(255.0).view(-1, 1, 1) for values in (dataset.mean, dataset.std)]
    stays = device.type == "cpu" and not part.images.flags.writeable
    images = SharedImages(part.images) if stays else torch.tensor(part.images, device=device)
    return DeviceSplit(images, torch.tensor(part.labels, device=device), *scale)


def shuffle_labels(split: DeviceSplit, pool_id: str) -> DeviceSplit:
    """The split with its labels permuted, in the same way for every member of a pool."""
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(derive_seed(pool_id, "labels")))
    return replace(split, labels=split.labels[order.to(split.labels.device)])
