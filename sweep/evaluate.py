"""A model on a split -> features and logits; logits and labels -> metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sweep.data import Dataset, Images
from sweep.passes import Pass
from sweep.registry import find


class Shared:
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

    images: int
    channels_last: bool | None = None


@dataclass(frozen=True)
class DeviceSplit:
    """One split for the device: images as uint8, labels, and the normalisation."""

    images: Tensor | Shared  # (examples, channels, size, size), uint8
    labels: Tensor  # (examples,), int64
    mean: Tensor  # (channels, 1, 1), in units of pixel values
    std: Tensor

    def batches(self, size: int) -> Iterator[Tensor]:
        """Normalised images in their order, `size` at a time."""
        for start in range(0, len(self.labels), size):
            yield self.normalised(self.images[start : start + size])

    def batched(self, told: Pass, batching: Batching) -> Iterator[Tensor]:
        """Normalised images as a pass asks for them, as many at a time as the batching says where the pass does not."""
        on_cpu, last = self.labels.device.type == "cpu", batching.channels_last
        layout = torch.channels_last if (on_cpu if last is None else last) else torch.contiguous_format
        size, count = told.batch or batching.images, min(told.examples or len(self.labels), len(self.labels))
        starts = [start for start in range(0, count, size) if not start or count - start >= told.smallest]
        for start, stop in zip(starts, [*starts[1:], count], strict=True):
            yield self.normalised(self.images[start:stop]).contiguous(memory_format=layout)

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 pixels to what the networks see; in one piece of memory, which takes a third of the time."""
        return images.to(torch.float32, copy=True).sub_(self.mean).div_(self.std)


def to_device(dataset: Dataset, split: str, device: torch.device) -> DeviceSplit:
    """A split of a data set on a device; on the CPU, images that processes share stay where they are."""
    part = dataset.splits[split]
    scale = [torch.tensor(values, device=device).mul(255.0).view(-1, 1, 1) for values in (dataset.mean, dataset.std)]
    stays = device.type == "cpu" and not part.images.flags.writeable
    images = Shared(part.images) if stays else torch.tensor(part.images, device=device)
    return DeviceSplit(images, torch.tensor(part.labels, device=device), *scale)


class Outputs(NamedTuple):
    """What a network says of a split."""

    logits: Tensor  # (examples, classes)
    features: Tensor | None  # (examples, features): the input of the head


@contextmanager
def _listening(head: nn.Module | None, heard: list[Tensor]) -> Iterator[None]:
    """Keep what reaches the head, so that features are right for every architecture."""
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    try:
        yield
    finally:
        handle.remove()


def outputs(
    model: nn.Module,
    split: DeviceSplit,
    batching: Batching,
    head: nn.Module | None = None,
    around: AbstractContextManager[Pass] | None = None,
) -> Outputs:
    """Logits of a model in evaluation mode over a split in its order, and features where its `head` is given.

    `around` may change the network for this pass, its mode too.
    """
    model.eval()
    heard: list[Tensor] = []
    with around or nullcontext(Pass()) as told, _listening(head, heard), torch.inference_mode():
        logits = torch.cat([model(images) for images in split.batched(told, batching)])
        return Outputs(logits, torch.cat(heard) if heard else None)


@torch.inference_mode()
def measure(logits: Tensor, labels: Tensor, metrics: Sequence[str]) -> dict[str, float]:
    """Each metric over all examples, in double precision, so that summation order does not show."""
    double = logits.double()
    brought = {"logits": double, "labels": labels, **_probabilities(double)}
    entries = [find("metrics", name) for name in metrics]
    return {entry.name: entry.function(*(brought[need] for need in entry.needs)) for entry in entries}


def _probabilities(logits: Tensor) -> dict[str, Tensor]:
    """Probabilities and their logarithms from one exponential: for few classes three times as fast as torch's own."""
    shifted = logits - logits.amax(-1, keepdim=True)
    powers = shifted.exp()
    total = powers.sum(-1, keepdim=True)
    return {"probabilities": powers / total, "log_probabilities": shifted - total.log()}
