"""Data sets: uint8 images and integer labels per split; images are decoded on first use."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from sweep.core.choice import PluginConfig
from sweep.core.errors import UserError
from sweep.core.memmap import cache_folder, open_memmap, write_npy_once
from sweep.core.text import printable

_log = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")
AUGMENTATIONS = frozenset({"crop", "flip"})
IN_MEMORY = 2 * 1024**3
"""Bytes of decoded images: a split with more of them, and with a key, is a memory-mapped file."""
DECODING_VERSION = 2
"""Enters the names of those files: raise it when the same settings would be decoded to other pixels."""
FINGERPRINT_VERSION = 2
"""Enters every fingerprint: raise it when a data set read from equal files would give other numbers."""

Images = NDArray[np.uint8]  # (examples, channels, size, size)
Labels = NDArray[np.int64]  # (examples,)
Indices = NDArray[np.int64]  # (examples,), ascending
Pixels = Annotated[int, Ge(1), Le(4096)]
Channels = Annotated[int, Ge(1), Le(16)]
Fraction = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Gt(0), Lt(1)]
Seed = Annotated[int, Ge(0)]
Deviation = Annotated[float, Gt(0)]


class DataError(UserError):
    """A data set that cannot be used."""


class PublishedInfo(NamedTuple):
    """What is known of a published data set without its files: classes, and images to train and to test with.

    Its settings are `size` and `validation`, the share of what is to train with, and perhaps `channels`.
    """

    classes: int
    train: int
    test: int


class Part(NamedTuple):
    """One file to download for a published data set; its data set's file lists them in `FILES`."""

    url: str
    md5: str
    file: str  # place below the root
    folder: str = ""  # that an archive holds


@dataclass
class Split:
    """One split: labels at once, images by `decode` when first asked for, whole or as pieces in their order.

    `key` names the decoded images among all that are; without one they stay in memory, however many. It is the bytes
    beyond `bound` that send them to a file in `cache_folder()`, decoded once per node.
    """

    labels: Labels
    decode: Callable[[], Images | Iterator[Images]]
    key: str = ""
    bound: int = IN_MEMORY
    file: Path | None = None
    """Where the images are mapped from, once they are."""

    @cached_property
    def images(self) -> Images:
        """(examples, channels, size, size), uint8."""
        if self.key:
            self.file = next((file for file in (self.file, self._cached_file()) if file and _is_file(file)), None)
        images = _read_images(self.file) if self.file else self._decoded()
        if len(images) != len(self.labels):
            raise DataError(f"{len(images)} images for {len(self.labels)} labels")
        return images

    def _cached_file(self) -> Path | None:
        """Where the decoded images are kept, if this user has a cache folder."""
        try:
            return self._cache_file()
        except UserError:
            return None

    def _decoded(self) -> Images:
        found = self.decode()
        pieces = _check_count(iter((found,) if isinstance(found, np.ndarray) else found), len(self))
        first = next(pieces)
        shape = (len(self), *first.shape[1:])
        pieces = itertools.chain((first,), pieces)
        if not self.key or math.prod(shape) <= self.bound:
            return np.ascontiguousarray(found) if isinstance(found, np.ndarray) else _concatenate(pieces, shape)
        self.file = self._cache_file()
        try:
            write_npy_once(self.file, pieces, shape, np.uint8)
        except OSError as error:
            what = f"cannot keep decoded images in {self.file.parent}: {error}"
            raise DataError(what, "MERGE_SWEEP_CACHE names another folder") from error
        return _read_images(self.file)

    def _cache_file(self) -> Path:
        """Where the decoded images are kept. Raises PathError without a folder for them."""
        return cache_folder() / f"{digest(DECODING_VERSION, self.key)}.npy"

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as arrays, which Ray shares among the processes of a node; a mapped one as where and what it is."""
        images = self.images
        if self.file is None:
            return _load_images, (self.labels, images)
        return Split, (self.labels, self.decode, self.key, self.bound, self.file)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # in a folder that this user may not enter
        return False


def _read_images(file: Path) -> Images:
    try:
        return open_memmap(file)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read decoded images from {file}: {error}", "remove it: it is made again") from None


def _load_images(labels: Labels, images: Images) -> Split:
    return Split(labels, lambda: images)


def _check_count(pieces: Iterator[Images], count: int) -> Iterator[Images]:
    """The pieces; raises DataError where they do not hold `count` images."""
    seen = 0
    for piece in pieces:
        seen += len(piece)
        if seen <= count:
            yield piece
    if seen != count:
        raise DataError(f"{seen} images for {count} labels")


def _concatenate(pieces: Iterator[Images], shape: tuple[int, ...]) -> Images:
    images = np.empty(shape, dtype=np.uint8)
    filled = 0
    for piece in pieces:
        images[filled : filled + len(piece)] = piece
        filled += len(piece)
    return images


def digest(*parts: object) -> str:
    """32 hex digits that stand for plain values, equal in every process."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def content_fingerprint(classes: Sequence[str], parts: Mapping[str, tuple[Labels, Iterable[str]]]) -> str:
    """Hash of what a data set read from files holds: 32 hex digits, equal if and only if all of this is equal.

    The names of the classes; for each part (train, test, …) its labels and the digests of its images in their order.
    Names, places and times of files are no content.
    """
    whole = hashlib.sha256(repr((FINGERPRINT_VERSION, tuple(classes))).encode())
    for name, (labels, images) in parts.items():
        whole.update(f"\n{name} {len(labels)}\n".encode())
        whole.update(labels.astype("<i8").tobytes())
        for image in images:
            whole.update(f"{image}\n".encode())
    return whole.hexdigest()[:32]


@cache
def warn_once(message: str) -> None:
    """Log a message about data, once per process."""
    _log.warning(message)


@dataclass
class Dataset:
    """Classes, splits and normalisation (mean and std per channel of pixels in [0, 1]).

    `fingerprint` stands in ids for content that the settings do not determine, as files in a folder. `augmentation`
    holds what leaves the class of an image as it is: a mirrored digit is another one, or none. Raises DataError for a
    class without training images; one without images for validation or test is logged, since accuracies there say
    nothing about it.
    """

    classes: tuple[str, ...]
    splits: dict[str, Split]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    fingerprint: str = ""
    augmentation: frozenset[str] = AUGMENTATIONS
    channels: int = field(init=False)

    def __post_init__(self) -> None:
        self.classes = tuple(printable(name) for name in self.classes)
        self.channels = len(self.mean)
        if len(self.classes) < 2:
            raise DataError(f"{len(self.classes)} class: a classifier needs at least two")
        if len(self.std) != self.channels:
            raise DataError(f"{len(self.mean)} means for {len(self.std)} standard deviations")
        empty = [name for name in SPLITS if not len(self.splits.get(name, ()))]
        if empty:
            raise DataError(f"no images in {', '.join(empty)}")
        self._check_classes()

    def _check_classes(self) -> None:
        for name in SPLITS:
            counts = _count_classes(name, self.splits[name].labels, len(self.classes))
            missing = [self.classes[label] for label in np.flatnonzero(counts == 0)]
            if missing and name == "train":
                raise DataError(f"no training images of {_list_classes(missing)}", _MISSING_HINT)
            if missing:
                warn_once(
                    f"no {name} images of {_list_classes(missing)}: metrics of this split do not cover all classes"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(classes, channels, size): what an architecture is built for."""
        return len(self.classes), self.channels, self.size

    def decode(self) -> None:
        """Bring the images of every split into memory; raises DataError for one that cannot be read."""
        for split in self.splits.values():
            _ = split.images


_MISSING_HINT = "add some, or take the class out of the data set; labels count the classes from 0, without gaps"


def _count_classes(split: str, labels: Labels, classes: int) -> NDArray[np.int64]:
    """Number of images per class. Raises DataError for labels that are no classes."""
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"labels of type {labels.dtype} and shape {labels.shape} in {split}: expected one integer each")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"labels from {labels.min()} to {labels.max()} in {split} for {classes} classes")
    return np.bincount(labels, minlength=classes)


def _list_classes(names: Sequence[str]) -> str:
    """`class `a`` or `3 classes (`a`, `b`, …)`."""
    if len(names) == 1:
        return f"class `{names[0]}`"
    shown = ", ".join(f"`{name}`" for name in names[:3])
    return f"{len(names)} classes ({shown}{', …' if len(names) > 3 else ''})"


def unsupported_augmentations(dataset: Dataset, asked: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """(key, what, hint) for each augmentation that a recipe asks for (true) and that changes what images show here."""
    allowed = " and ".join(f"`{key}`" for key in sorted(dataset.augmentation)) or "none"
    return [
        (key, f"`{key}` changes what the images of this data set show", f"what leaves their class as it is: {allowed}")
        for key in sorted(AUGMENTATIONS - dataset.augmentation)
        if asked.get(key)
    ]


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


@cache
def load_dataset(choice: PluginConfig) -> Dataset:
    """The data set of a configuration, built once per process. Raises DataError."""
    dataset = choice.call()
    assert isinstance(dataset, Dataset)
    return dataset
