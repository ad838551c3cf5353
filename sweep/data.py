"""What a data set is to the rest: uint8 images and labels per split, decoded when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from sweep.errors import ToldError

SPLITS = ("train", "validation", "test")

Images = NDArray[np.uint8]  # (examples, channels, size, size)
Labels = NDArray[np.int64]  # (examples,)
Pixels = Annotated[int, Ge(1), Le(4096)]
Channels = Annotated[int, Ge(1), Le(16)]
Fraction = Annotated[float, Ge(0), Le(1)]
Deviation = Annotated[float, Gt(0)]


class DataError(ToldError):
    """A data set that cannot be used."""


@dataclass
class Split:
    """One split: labels at once, images by `decode` when first asked for."""

    labels: Labels
    decode: Callable[[], Images]

    @cached_property
    def images(self) -> Images:
        """(examples, channels, size, size), uint8."""
        images = self.decode()
        if len(images) != len(self.labels):
            raise DataError(f"{len(images)} images for {len(self.labels)} labels")
        return np.ascontiguousarray(images)

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as arrays, which Ray shares among the processes of a node."""
        return _decoded, (self.labels, self.images)


def _decoded(labels: Labels, images: Images) -> Split:
    return Split(labels, lambda: images)


@dataclass
class Dataset:
    """Classes, splits and normalisation (mean and std per channel of pixels in [0, 1]).

    `fingerprint` stands in ids for content that the settings do not determine, as files in a folder.
    """

    classes: tuple[str, ...]
    splits: dict[str, Split]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    fingerprint: str = ""
    channels: int = field(init=False)

    def __post_init__(self) -> None:
        self.channels = len(self.mean)
        if len(self.classes) < 2:
            raise DataError(f"{len(self.classes)} class: a classifier needs at least two")
        if len(self.std) != self.channels:
            raise DataError(f"{len(self.mean)} means for {len(self.std)} standard deviations")
        empty = [name for name in SPLITS if not len(self.splits.get(name, ()))]
        if empty:
            raise DataError(f"no images in {', '.join(empty)}")

    def decode(self) -> None:
        """Bring the images of every split into memory; raises DataError for one that cannot be read."""
        for split in self.splits.values():
            _ = split.images


def stratified_split(labels: Labels, shares: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """Indices of len(shares) + 1 disjoint parts, each class cut by the same shares; the last part is the rest.

    Each part is in ascending order of index.
    """
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(shares) + 1)]
    generator = np.random.default_rng(seed)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(shares) * len(members)).astype(int)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def subset(labels: Labels, images: Images, indices: NDArray[np.int64]) -> Split:
    """The split of those examples of images that are in memory already."""
    return Split(labels[indices], lambda: images[indices])
