"""Makes a `Dataset` from the published parts of a data set: train, test and perhaps validation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweep.core.dataset import (
    AUGMENTATIONS,
    DataError,
    Dataset,
    Images,
    Indices,
    Labels,
    Split,
    digest,
    files_fingerprint,
    stratified_split,
)
from sweep.plugins.datasets._pictures import PIECE, resized

Pieces = Callable[[str, Indices], Iterator[Images]]
"""Part and indices -> images in pieces, of the configured size and channels; can be pickled."""


class Published(NamedTuple):
    """A data set before its training part is split."""

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    contents: Mapping[str, int]  # file -> bytes, or array -> checksum
    labels: Mapping[str, Labels]  # part -> labels
    pieces: Pieces
    augmentation: frozenset[str] = AUGMENTATIONS

    def split(self, seed: int, validation: float) -> Dataset:
        """The data set; without a validation part, a stratified random share of train is the validation split."""
        parts = {name: (name, np.arange(len(labels))) for name, labels in self.labels.items()}
        if "validation" not in parts:
            chosen, rest = stratified_split(self.labels["train"], (validation,), seed)
            parts |= {"train": ("train", rest), "validation": ("train", chosen)}
        return self.make_dataset(parts)

    def make_dataset(self, parts: Mapping[str, tuple[str, Indices]]) -> Dataset:
        """The data set whose splits are the given examples of the given parts."""
        # Labels distinguish contents whose files have the same names and sizes; they are read anyway.
        content = [hash_array(labels) for labels in self.labels.values()]
        fingerprint = digest(files_fingerprint(self.contents), content)
        key = (self.name, fingerprint, self.size, len(self.mean))
        splits = {}
        for name, (part, indices) in parts.items():
            decode = partial(self.pieces, part, indices)
            splits[name] = Split(self.labels[part][indices], decode, digest(*key, part, hash_array(indices)))
        return Dataset(self.classes, splits, self.mean, self.std, self.size, fingerprint, self.augmentation)


def hash_array(values: Labels) -> str:
    """Hash of an array of integers."""
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()


def iter_images(
    read: Callable[[str], Images], labels: Mapping[str, Labels], size: int, channels: int, part: str, indices: Indices
) -> Iterator[Images]:
    """Pieces of a part that is read as one array (examples, 1 or channels, side, side), resized; grey is repeated."""
    images = read(part)
    if len(images) != len(labels[part]):
        raise DataError(f"{len(images)} images for {len(labels[part])} labels in {part}")
    for start in range(0, len(indices), PIECE):
        piece = resized(images[indices[start : start + PIECE]], size)
        yield piece if piece.shape[1] == channels else np.repeat(piece, channels, axis=1)


def check_files(name: str, root: Path, files: Mapping[str, Path]) -> dict[str, int]:
    """Sizes of files in bytes. Raises DataError with the place of one that is missing."""
    for file in files.values():
        if not file.is_file():
            raise DataError(f"no file {file}", f"sweep fetch {name} --root {root}")
    return {key: file.stat().st_size for key, file in files.items()}


def check_labels(labels: NDArray[Any], classes: int, place: Path) -> Labels:
    """The labels as int64. Raises DataError where they are no whole numbers that count the classes from 0."""
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"{place}: labels are whole numbers from 0, one per image")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"{place}: labels from {labels.min()} to {labels.max()} for {classes} classes")
    return labels.astype(np.int64)
