"""Images in folders: root/{train,val,test}/<class>/<image>."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from sweep.core.dataset import (
    DataError,
    Dataset,
    Deviation,
    Fraction,
    Labels,
    Pixels,
    Split,
    content_fingerprint,
    digest,
)
from sweep.core.paths import expand
from sweep.plugins.datasets._image_files import (
    HIDDEN,
    Ignored,
    count_images,
    file_digests,
    images_in,
    is_folder,
    is_hidden,
    sorted_entries,
)
from sweep.plugins.datasets._pictures import decode_files

CITES = ()

_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_HINT = "images belong in root/{train,val,test}/<class>/"


def imagefolder(
    *,
    root: Path,
    size: Pixels = 224,
    mean: tuple[Fraction, ...] = (0.485, 0.456, 0.406),
    std: tuple[Deviation, ...] = (0.229, 0.224, 0.225),
) -> Dataset:
    """Your own images in root/{train,val,test}/<class>/, resized by their shorter side to `size` and centre cropped.

    One `mean` makes them grey, three RGB. Links to folders and files are followed. Files with the suffixes bmp, gif,
    jpeg, jpg, pgm, png, ppm, tif, tiff and webp are read; what else lies there is logged in one line (files with other
    suffixes, hidden files, folders below a class). Grey of 16 bits and floats from 0 to 1 are scaled to 0 to 255,
    transparency is dropped, of an animation the first picture is read, and the orientation in EXIF data is ignored; a
    picture without such a rule is an error. Ids depend on the bytes of the images in the order of their names, and on
    the names of the classes. Raises DataError, with the path, for a missing folder, fewer than two classes, classes
    that differ between splits, a class without training images, and an unreadable image. A class without images in val
    or test is logged.
    """
    root = expand(root)
    if len(mean) not in (1, 3):
        raise DataError(f"{len(mean)} means: images are grey (1) or RGB (3)")
    ignored = Ignored(root)
    classes = _classes(root, ignored)
    found = {name: _files(root / folder, classes, ignored) for name, folder in _FOLDERS.items()}
    _check_training_images(root / _FOLDERS["train"], classes, found)
    mode = "L" if len(mean) == 1 else "RGB"
    content = {name: (labels, file_digests(files)) for name, (files, labels) in found.items()}
    fingerprint = content_fingerprint(classes, content)
    splits = {}
    for name, (files, labels) in found.items():
        key = digest("imagefolder", fingerprint, name, size, mode)
        splits[name] = Split(labels, partial(decode_files, files, size, mode), key)
    dataset = Dataset(classes, splits, mean, std, size, fingerprint)
    ignored.log()
    return dataset


def _classes(root: Path, ignored: Ignored) -> tuple[str, ...]:
    """Names of the class folders, which must be the same in every split."""
    found = {}
    for folder in _FOLDERS.values():
        place = root / folder
        if not place.is_dir():
            raise DataError(f"no folder {place}", _HINT)
        found[folder] = _class_folders(place, ignored)
        if len(found[folder]) < 2:
            raise DataError(f"{len(found[folder])} class in {place}", "a classifier needs at least two class folders")
        odd = sorted(set(found[folder]) ^ set(found["train"]))
        if odd:
            raise DataError(f"classes of {place} differ from train: {_names(odd[:3])}", _alike(odd))
    return tuple(found["train"])


def _names(classes: list[str]) -> str:
    """Names of classes for a message, in ASCII if some look the same."""
    return ", ".join(map(ascii, classes) if _alike(classes) else classes)


def _alike(classes: list[str]) -> str:
    """A hint if two names differ only in what is easily overlooked, else empty."""
    plain = {" ".join(unicodedata.normalize("NFC", name).casefold().split()) for name in classes}
    same = (
        "two of these names differ only in capital letters, spaces or the Unicode form of a letter: rename one of them"
    )
    return same if len(plain) < len(classes) else ""


def _class_folders(split: Path, ignored: Ignored) -> list[str]:
    names = []
    for entry in sorted_entries(split):
        if is_hidden(entry.name):
            ignored.add(HIDDEN, split / entry.name)
        elif is_folder(entry):
            names.append(entry.name)
        else:
            ignored.add("files beside the class folders", split / entry.name)
    return names


def _files(split: Path, classes: tuple[str, ...], ignored: Ignored) -> tuple[list[Path], Labels]:
    """Images and their labels, sorted by class and name."""
    files = []
    labels = []
    for label, name in enumerate(classes):
        images = images_in(split / name, ignored)
        files += images
        labels.append(np.full(len(images), label, dtype=np.int64))
    return files, np.concatenate(labels)


def _check_training_images(
    folder: Path, classes: tuple[str, ...], found: Mapping[str, tuple[list[Path], Labels]]
) -> None:
    """Raise DataError for a class without training images, with the number of those elsewhere."""
    counts = {name: np.bincount(labels, minlength=len(classes)) for name, (_, labels) in found.items()}
    missing = np.flatnonzero(counts["train"] == 0)
    if not len(missing):
        return
    label = missing[0]
    place = folder / classes[label]
    numbers = [f"{counts[name][label]} in {_FOLDERS[name]}" for name in counts]
    below = count_images(place)
    deeper = f", {below} in folders below it" if below else ""
    more = f"; classes without training images: {len(missing)}" if len(missing) > 1 else ""
    raise DataError(
        f"no training images of class `{classes[label]}` in {place} ({', '.join(numbers)}{deeper}){more}", _HINT
    )
