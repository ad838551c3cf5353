"""A model on a split -> features and logits; logits and labels -> metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sweep.data import Dataset
from sweep.registry import find


@dataclass(frozen=True)
class DeviceSplit:
    """One split in the memory of the device: images as uint8, labels, and the normalisation."""

    images: Tensor  # (examples, channels, size, size), uint8
    labels: Tensor  # (examples,), int64
    mean: Tensor  # (channels, 1, 1), in units of pixel values
    std: Tensor

    def batches(self, size: int) -> Iterator[Tensor]:
        """Normalised images in their order, `size` at a time."""
        for start in range(0, len(self.images), size):
            yield self.normalised(self.images[start : start + size])

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 pixels to what the networks see."""
        return (images.float() - self.mean) / self.std


def to_device(dataset: Dataset, split: str, device: torch.device) -> DeviceSplit:
    """A split of a data set on a device. On the CPU it is copied: shared memory must never be written to."""
    part = dataset.splits[split]
    scale = [torch.tensor(values, device=device).mul(255.0).view(-1, 1, 1) for values in (dataset.mean, dataset.std)]
    images = torch.tensor(part.images, device=device)
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


@torch.inference_mode()
def outputs(model: nn.Module, split: DeviceSplit, batch: int, head: nn.Module | None = None) -> Outputs:
    """Logits of a model in evaluation mode over a split in its order, and features where its `head` is given."""
    model.eval()
    heard: list[Tensor] = []
    with _listening(head, heard):
        logits = torch.cat([model(images) for images in split.batches(batch)])
    return Outputs(logits, torch.cat(heard) if heard else None)


@torch.inference_mode()
def measure(logits: Tensor, labels: Tensor, metrics: Sequence[str]) -> dict[str, float]:
    """Each metric over all examples, in double precision, so that summation order does not show."""
    double = logits.double()
    brought = {"logits": double, "labels": labels, "probabilities": double.softmax(-1)}
    entries = [find("metrics", name) for name in metrics]
    return {entry.name: entry.function(*(brought[need] for need in entry.needs)) for entry in entries}
