"""Which training images a repair looks at, and in which batches."""

from __future__ import annotations

from typing import Annotated, Protocol

import torch
from annotated_types import Ge
from torch import Tensor

Several = Annotated[int, Ge(2)]  # nothing varies over one image


class Images(Protocol):
    """Training images by their positions, as networks see them."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """(chosen, channels, size, size), normalised and as they are: neither cropped nor mirrored."""


def drawn(images: Images, generator: torch.Generator, examples: int, batch: int) -> list[Tensor]:
    """Positions of so many images, or of all, in random order and in batches: each of `batch` or less than twice that.

    Batches differ in size by one at most, so that none is too small to say how channels vary. Order matters: batches of
    images sorted by class give clearly worse statistics.
    """
    chosen = torch.randperm(len(images), generator=generator)[:examples]
    return list(chosen.tensor_split(max(1, len(chosen) // batch)))
