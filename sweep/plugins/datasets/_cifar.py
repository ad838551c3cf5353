"""Reads the Python batches of CIFAR: pickles, read without running any code in them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sweep.core.dataset import DataError, Images, Labels
from sweep.core.paths import expand
from sweep.plugins.datasets._published import Published, check_files, check_labels, image_digests, iter_images


class Layout(NamedTuple):
    """The differences between CIFAR-10 and CIFAR-100: folder, files of each part, keys of labels and class names."""

    name: str
    folder: str
    parts: Mapping[str, Sequence[str]]
    meta: str
    labels: str
    classes: str


def cifar(layout: Layout, root: Path, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Published:
    """The data set in root/<folder>/. Raises DataError for missing files and for files that are no batch of images."""
    folder = expand(root) / layout.folder
    names = [*layout.parts["train"], *layout.parts["test"], layout.meta]
    check_files(layout.name, root, [folder / name for name in names])
    found = _batch(folder / layout.meta).get(layout.classes, ())
    if not _listed(found, bytes):
        raise DataError(f"{folder / layout.meta}: it holds no `{layout.classes}`")
    classes = tuple(name.decode("latin-1") for name in found)
    files = {part: [folder / name for name in names] for part, names in layout.parts.items()}
    labels = {
        part: np.concatenate([_labels(file, layout.labels, len(classes)) for file in several])
        for part, several in files.items()
    }
    return Published(
        layout.name,
        classes,
        mean,
        std,
        size,
        image_digests(files, "cifar", _read_images),
        labels,
        partial(iter_images, partial(_images, files), labels, size, 3),
    )


def _listed(values: object, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _labels(file: Path, key: str, classes: int) -> Labels:
    batch = _batch(file)
    labels = batch.get(key, ())
    if not _listed(labels, int) or len(labels) != len(_pixels(file, batch)):
        raise DataError(f"{file}: expected a label in `{key}` for each image")
    return check_labels(np.array(labels), classes, file)


def _images(files: Mapping[str, Sequence[Path]], part: str) -> Images:
    return np.concatenate([_read_images(file) for file in files[part]])


def _read_images(file: Path) -> Images:
    return _pixels(file, _batch(file))


def _pixels(file: Path, batch: Mapping[str, Any]) -> Images:
    """(examples, 3, 32, 32): a row of the file holds the red, green and blue planes."""
    pixels = getattr(batch.get("data"), "pixels", None)
    if pixels is None or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise DataError(f"{file}: it holds no images of 3 x 32 x 32")
    images: Images = pixels.reshape(-1, 3, 32, 32)
    return images


class _Kind:
    """Replaces numpy.dtype."""

    def __init__(self, code: bytes, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and alignment, which single bytes do not have."""


class _Array:
    """Replaces numpy.ndarray: keeps the bytes of the pixels and their shape."""

    pixels: Images | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Kind, bool, bytes]) -> None:
        _, shape, kind, columns_first, content = state
        if kind.code != b"u1":
            raise ValueError(f"an array of {kind.code!r} instead of bytes")
        self.pixels = np.frombuffer(content, np.uint8).reshape(shape, order="F" if columns_first else "C")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
}


class _Batch(pickle.Unpickler):
    """Replaces the names that occur in a batch of images, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no batch of images does")
        return _STAND_INS[module, name]


def _batch(file: Path) -> dict[str, Any]:
    """The contents of a batch by name. Raises DataError for any other file."""
    try:
        found = _Batch(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        return {key.decode("latin-1"): value for key, value in found.items()}
    except Exception as error:  # a pickle can raise anything
        raise DataError(f"cannot read {file}: {error}", "remove it and fetch it again") from error
