"""Makes a `Dataset` from the published parts of a data set: train, test and perhaps validation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweep.core.dataset import (
    AUGMENTATIONS,
    FINGERPRINT_VERSION,
    DataError,
    Dataset,
    Images,
    Indices,
    Labels,
    Split,
    content_fingerprint,
    digest,
    stratified_split,
)
from sweep.core.hash_cache import cached_digests
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
    digests: Mapping[str, Iterable[str]]  # part -> digests of its images, in their order
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
        content = {part: (labels, self.digests[part]) for part, labels in self.labels.items()}
        fingerprint = content_fingerprint(self.classes, content)
        key = (self.name, fingerprint, self.size, len(self.mean))
        splits = {}
        for name, (part, indices) in parts.items():
            decode = partial(self.pieces, part, indices)
            splits[name] = Split(self.labels[part][indices], decode, digest(*key, part, hash_array(indices)))
        return Dataset(self.classes, splits, self.mean, self.std, self.size, fingerprint, self.augmentation)


def hash_array(values: Labels) -> str:
    """Hash of an array of integers."""
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()


def hash_images(images: Images) -> str:
    """Hash of images (examples, channels, side, side), whatever their layout in memory or in a file."""
    whole = hashlib.sha256(repr(images.shape).encode())
    for start in range(0, len(images), PIECE):
        whole.update(np.ascontiguousarray(images[start : start + PIECE]).data)
    return whole.hexdigest()


def image_digests(
    files: Mapping[str, Sequence[Path]], kind: str, read: Callable[[Path], Images]
) -> dict[str, list[str]]:
    """Part -> `hash_images` of what `read` makes of each of its files; kept as long as the files do not change."""
    kind = f"{kind} {FINGERPRINT_VERSION}"
    try:
        return {part: cached_digests(each, kind, lambda file: hash_images(read(file))) for part, each in files.items()}
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error


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


def check_files(name: str, root: Path, files: Iterable[Path]) -> None:
    """Raise DataError with the place of a file that is missing."""
    for file in files:
        if not file.is_file():
            raise DataError(f"no file {file}", f"sweep fetch {name} --root {root}")


def check_labels(labels: NDArray[Any], classes: int | None, place: Path) -> Labels:
    """The labels as int64. Raises DataError where they are no whole numbers that count the classes from 0.

    Without `classes`, any whole number from 0 is a label.
    """
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        what = f"{place}: labels of type {labels.dtype} and shape {labels.shape}"
        raise DataError(what, "labels are whole numbers from 0, one per image")
    bound = 2**63 if classes is None else classes
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < bound:
        expected = "whole numbers from 0" if classes is None else f"{classes} classes"
        raise DataError(f"{place}: labels from {labels.min()} to {labels.max()} for {expected}")
    return labels.astype(np.int64)


def numbered_classes(labels: Mapping[str, Labels], place: Path) -> tuple[str, ...]:
    """The labels from 0 to the largest one, as names of classes. Raises DataError if that is more than the images."""
    largest = max(int(each.max(initial=0)) for each in labels.values())
    examples = sum(map(len, labels.values()))
    if largest >= examples:  # at once, since a list of 10^18 names fits nowhere
        raise DataError(f"{place}: labels up to {largest} for {examples} images", "labels count the classes from 0")
    return tuple(map(str, range(largest + 1)))
