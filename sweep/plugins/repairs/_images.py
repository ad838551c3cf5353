"""Draws the training images that a repair uses, in batches."""

from __future__ import annotations

from typing import Annotated, Protocol

import torch
from annotated_types import Ge, Le
from torch import Tensor

Several = Annotated[int, Ge(2), Le(1_000_000)]  # one image has no variance


class Images(Protocol):
    """Training images by position, as tensors."""

    def __len__(self) -> int:
        """The number of images."""

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """(chosen, channels, size, size), normalised, without augmentation."""


def draw_batches(images: Images, generator: torch.Generator, examples: int, batch: int) -> list[Tensor]:
    """Positions of `examples` images, at most all, in random order and in batches of `batch` to twice as many.

    Sizes of batches differ by at most one, so that none is too small to estimate a variance. Order matters: batches of
    images sorted by class give clearly worse statistics.
    """
    chosen = torch.randperm(len(images), generator=generator)[:examples]
    return list(chosen.tensor_split(max(1, len(chosen) // batch)))
