"""One split of a data set on a device, as normalised batches."""

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
    """Images in shared memory or a mapped file, which other processes read too. Indexing copies.

    A tensor over them could be written to: numpy protects read-only arrays, torch does not.
    """

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, indices: slice | Tensor) -> Tensor:
        if isinstance(indices, slice):
            return torch.from_numpy(np.array(self._images[indices]))
        return torch.from_numpy(np.take(self._images, indices.numpy(), axis=0))


class Batching(NamedTuple):
    """Images per batch, and whether channels come last in memory.

    None means last on a CPU, where convolutions without gradients are up to twice as fast, and first on a GPU.
    """

    batch_size: int
    channels_last: bool | None = None


@dataclass(frozen=True)
class DeviceSplit:
    """One split on a device: images as uint8, labels, and the normalisation."""

    images: Tensor | SharedImages  # (examples, channels, size, size), uint8
    labels: Tensor  # (examples,), int64
    mean: Tensor  # (channels, 1, 1), in units of pixel values
    std: Tensor

    def batches(self, size: int) -> Iterator[Tensor]:
        """Normalised images in order, `size` per batch."""
        for start in range(0, len(self.labels), size):
            yield self.normalize(self.images[start : start + size])

    def iter_batches(self, options: ForwardOptions, batching: Batching) -> Iterator[Tensor]:
        """Normalised images in batches: the options of this pass come before the batching of the run."""
        channels_last = batching.channels_last
        if channels_last is None:
            channels_last = self.labels.device.type == "cpu"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        size = options.batch_size or batching.batch_size
        count = min(options.max_examples or len(self.labels), len(self.labels))
        starts = [start for start in range(0, count, size) if not start or count - start >= options.min_batch_size]
        for start, stop in zip(starts, [*starts[1:], count], strict=True):
            yield self.normalize(self.images[start:stop]).contiguous(memory_format=layout)

    def normalize(self, images: Tensor) -> Tensor:
        """Normalised float32 images from uint8 pixels; in place after one copy, which takes a third of the time."""
        return images.to(torch.float32, copy=True).sub_(self.mean).div_(self.std)


def to_device(dataset: Dataset, split: str, device: torch.device) -> DeviceSplit:
    """A split of a data set on a device; on a CPU, shared read-only images are not copied."""
    part = dataset.splits[split]
    scale = [torch.tensor(values, device=device).mul(255.0).view(-1, 1, 1) for values in (dataset.mean, dataset.std)]
    stays = device.type == "cpu" and not part.images.flags.writeable
    images = SharedImages(part.images) if stays else torch.tensor(part.images, device=device)
    return DeviceSplit(images, torch.tensor(part.labels, device=device), *scale)


def shuffle_labels(split: DeviceSplit, pool_id: str) -> DeviceSplit:
    """The split with permuted labels; the permutation is the same for all members of a pool."""
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(derive_seed(pool_id, "labels")))
    return replace(split, labels=split.labels[order.to(split.labels.device)])
