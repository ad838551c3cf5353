"""Images and labels as arrays in a .npz file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from sweep.core.dataset import (
    SPLITS,
    DataError,
    Dataset,
    Deviation,
    Fraction,
    Images,
    Labels,
    Seed,
    stratified_split,
    warn_once,
)
from sweep.core.paths import expand
from sweep.core.text import printable
from sweep.plugins.datasets._published import Published, check_labels, image_digests, iter_images, numbered_classes

CITES = ()

_HINT = "numpy.savez(FILE, images=…, labels=…), or train_images=…, train_labels=…, test_images=…, test_labels=…"
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile)


def arrays(
    *,
    file: Path,
    size: Annotated[int, Ge(0), Le(4096)] = 0,
    mean: tuple[Fraction, ...] = (0.5,),
    std: tuple[Deviation, ...] = (0.25,),
    split: Seed = 0,
    held_out: Annotated[float, Gt(0), Lt(0.5)] = 0.2,
) -> Dataset:
    """Your own square uint8 images (NHWC, NCHW or NHW) and integer labels from 0 in a .npz file.

    The file holds `images` and `labels`, or `train_images`, `train_labels`, `test_images` and so on, and may name its
    labels in `classes`. Arrays that are not split are split here: a share `held_out` is the test split, the same for
    every `split`, and as many images are the validation split, random with the seed `split`. One mean holds for all
    channels; `size: 0` keeps the images' size. Other arrays in the file are ignored, and logged. Raises DataError for
    images of another type (floats, 16 bits), for labels that are no whole numbers from 0, one per image, and for a
    class without training images.
    """
    file = expand(file)
    with _open(file) as archive:
        names = {each.removesuffix(".npy") for each in archive.namelist()}
        prefixes = _prefixes(names, file)
        shapes = {part: _shape(archive, f"{prefix}images", file) for part, prefix in prefixes.items()}
    form = _form({shape[1:] for shape in shapes.values()}, file)
    labels, classes = _labels(file, prefixes, names)
    _check_counts(file, shapes, labels)
    _log_ignored(file, names - {f"{prefix}{what}" for prefix in prefixes.values() for what in ("images", "labels")})
    size = size or form.side
    count = form.channels
    pieces = partial(iter_images, partial(_images, file, prefixes, form), labels, size, count)
    mean, std = (each * count if len(each) == 1 else each for each in (mean, std))
    if len(mean) != count:
        raise DataError(f"{len(mean)} means for {count} channels")
    published = Published("arrays", classes, mean, std, size, _digests(file, prefixes, form), labels, pieces)
    return published.split(split, held_out) if "all" not in labels else _split_in_three(published, split, held_out)


def _split_in_three(published: Published, split: int, held_out: float) -> Dataset:
    """Train, validation and test from one part; only the first two depend on the seed `split`."""
    labels = published.labels["all"]
    test, rest = stratified_split(labels, (held_out,), 0)
    validation, train = stratified_split(labels[rest], (held_out / (1 - held_out),), split)
    return published.make_dataset(
        {"train": ("all", rest[train]), "validation": ("all", rest[validation]), "test": ("all", test)}
    )


class _Form(NamedTuple):
    """How images are stored in the file."""

    channels: int
    side: int
    channels_last: bool


def _open(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {file}: {error}", _HINT) from error


def _prefixes(names: Set[str], file: Path) -> dict[str, str]:
    """Part -> prefix of its arrays' names."""
    found = {part: f"{part}_" for part in SPLITS if f"{part}_images" in names} or {"all": ""}
    needed = {f"{prefix}{what}" for prefix in found.values() for what in ("images", "labels")}
    if not needed <= names or not ("all" in found or {"train", "test"} <= found.keys()):
        raise DataError(f"{file} holds {', '.join(sorted(names)) or 'nothing'}", _HINT)
    return found


def _shape(archive: zipfile.ZipFile, name: str, file: Path) -> tuple[int, ...]:
    """Shape of the images of a part, at least one number, from the header of the array."""
    try:
        with archive.open(f"{name}.npy") as header:
            version = np.lib.format.read_magic(header)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = read(header)
    except _DAMAGE as error:
        raise DataError(f"cannot read `{name}` in {file}: {error}", _HINT) from error
    if kind != np.uint8:
        raise DataError(f"{file}: `{name}` is {kind}", "images are uint8, from 0 to 255")
    return tuple(shape)


def _form(shapes: Set[tuple[int, ...]], file: Path) -> _Form:
    """The form of the images, which must be the same in all parts."""
    shape = min(shapes)
    first, *rest = (1, *shape) if len(shape) == 2 else shape or (0,)
    fits = []
    if len(rest) == 2:
        middle, last = rest
        fits = [_Form(first, last, False)] * (middle == last) + [_Form(last, first, True)] * (first == middle)
    if len(fits) != 1 or len(shapes) > 1 or fits[0].channels > 16:
        listed = " and ".join(str(each) for each in sorted(shapes))
        raise DataError(
            f"{file}: images of shape {listed}", "expected square images with up to 16 channels, first or last"
        )
    return fits[0]


def _labels(file: Path, prefixes: Mapping[str, str], names: Set[str]) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Labels of each part, and the names of the classes."""
    found = {part: _array(file, f"{prefix}labels") for part, prefix in prefixes.items()}
    found = {part: labels[:, 0] if labels.shape[1:] == (1,) else labels for part, labels in found.items()}
    found = {part: check_labels(labels, None, file) for part, labels in found.items()}
    classes = _class_names(file) if "classes" in names else numbered_classes(found, file)
    return {part: check_labels(labels, len(classes), file) for part, labels in found.items()}, classes


def _class_names(file: Path) -> tuple[str, ...]:
    names = _array(file, "classes")
    if names.ndim != 1:
        raise DataError(f"{file}: `classes` has {names.ndim} dimensions", "expected one name for each label, in a list")
    return tuple(name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name) for name in names)


def _check_counts(file: Path, shapes: Mapping[str, tuple[int, ...]], labels: Mapping[str, Labels]) -> None:
    """Raise DataError for a part with another number of labels than images."""
    for part, shape in shapes.items():
        if shape[0] != len(labels[part]):
            raise DataError(f"{file}: {shape[0]} images for {len(labels[part])} labels in {part}")


def _digests(file: Path, prefixes: Mapping[str, str], form: _Form) -> dict[str, Iterable[str]]:
    """Part -> digests of its images, the same for every layout of the array."""
    digests: dict[str, Iterable[str]] = {}
    for part, prefix in prefixes.items():
        read = partial(_images, prefixes=prefixes, form=form, part=part)
        digests |= image_digests({part: [file]}, f"npz {prefix}images", read)
    return digests


def _log_ignored(file: Path, others: Set[str]) -> None:
    """Log the arrays in the file that are not read."""
    ignored = sorted(others - {"classes"})
    if ignored:
        more = ", …" if len(ignored) > 3 else ""
        warn_once(printable(f"{file}: {len(ignored)} arrays are ignored: {', '.join(ignored[:3])}{more}"))


def _images(file: Path, prefixes: Mapping[str, str], form: _Form, part: str) -> Images:
    """(examples, channels, side, side)."""
    images = _array(file, f"{prefixes[part]}images")
    if form.channels_last:
        return images.transpose(0, 3, 1, 2)
    return images.reshape(-1, form.channels, form.side, form.side)


def _array(file: Path, name: str) -> NDArray[Any]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            array: NDArray[Any] = arrays[name]
    except _DAMAGE as error:
        raise DataError(f"cannot read `{name}` in {file}: {error}", _HINT) from error
    return array
