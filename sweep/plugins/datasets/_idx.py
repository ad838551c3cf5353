"""Reads the idx files of MNIST and Fashion-MNIST, compressed (.gz) as published, or unpacked."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweep.core.dataset import DataError, Images, Part
from sweep.core.paths import expand
from sweep.plugins.datasets._published import Published, check_files, check_labels, image_digests, iter_images

_PREFIXES = {"train": "train", "test": "t10k"}


def files_of(address: str, folder: str, checksums: Sequence[str]) -> tuple[Part, ...]:
    """The four files to download: training images and labels, test images and labels, with their md5 sums."""
    names = [f"{prefix}-{kind}-ubyte.gz" for prefix in _PREFIXES.values() for kind in ("images-idx3", "labels-idx1")]
    return tuple(
        Part(f"{address}/{name}", md5, f"{folder}/raw/{name}") for name, md5 in zip(names, checksums, strict=True)
    )


class Layout(NamedTuple):
    """The differences between the data sets of this format."""

    name: str
    folder: str
    classes: tuple[str, ...]
    mean: float
    std: float
    augmentation: frozenset[str]


def idx(layout: Layout, root: Path, size: int, channels: int) -> Published:
    """The data set in root/<folder>/raw/. Raises DataError for missing or damaged files."""
    folder = expand(root) / layout.folder / "raw"
    images = {part: _find_file(folder / f"{prefix}-images-idx3-ubyte") for part, prefix in _PREFIXES.items()}
    numbers = {part: _find_file(folder / f"{prefix}-labels-idx1-ubyte") for part, prefix in _PREFIXES.items()}
    check_files(layout.name, root, (*images.values(), *numbers.values()))
    labels = {part: check_labels(_read(file, 1), len(layout.classes), file) for part, file in numbers.items()}
    pieces = partial(iter_images, partial(_images, images), labels, size, channels)
    mean = (layout.mean,) * channels
    std = (layout.std,) * channels
    digests = image_digests({part: [file] for part, file in images.items()}, "idx", _read_images)
    return Published(layout.name, layout.classes, mean, std, size, digests, labels, pieces, layout.augmentation)


def _find_file(file: Path) -> Path:
    """The unpacked file if it exists, else the published one (.gz)."""
    return file if file.is_file() else file.with_name(file.name + ".gz")


def _images(files: Mapping[str, Path], part: str) -> Images:
    return _read_images(files[part])


def _read_images(file: Path) -> Images:
    return _read(file, 3)[:, None]


def _read(file: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of a file: unsigned bytes, shaped by the header."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        start = 4 * (dimensions + 1)
        magic, *shape = struct.unpack(f">{dimensions + 1}i", content[:start])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"cannot read {file}: {error}", "remove it and fetch it again") from error
    # 8 stands for unsigned bytes, the last byte for the number of dimensions.
    if magic != 0x800 + dimensions or math.prod(shape) != len(content) - start:
        raise DataError(f"cannot read {file}: its header does not fit it", "remove it and fetch it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
