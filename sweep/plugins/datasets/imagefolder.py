"""Images in folders: root/{train,val,test}/<class>/<image>."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sweep.core.dataset import DataError, Dataset, Deviation, Fraction, Labels, Pixels, Split, digest, files_fingerprint
from sweep.core.paths import expand
from sweep.plugins.datasets._pictures import decode_files

CITES = ()

_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def imagefolder(
    *,
    root: Path,
    size: Pixels = 224,
    mean: tuple[Fraction, ...] = (0.485, 0.456, 0.406),
    std: tuple[Deviation, ...] = (0.229, 0.224, 0.225),
) -> Dataset:
    """Your own images in root/{train,val,test}/<class>/, resized by their shorter side to `size` and centre cropped.

    One `mean` makes them grey, three RGB. Raises DataError, with the path, for a missing folder, fewer than two
    classes, classes that differ between splits, and an unreadable image.
    """
    root = expand(root)
    if len(mean) not in (1, 3):
        raise DataError(f"{len(mean)} means: images are grey (1) or RGB (3)")
    classes = _classes(root)
    mode = "L" if len(mean) == 1 else "RGB"
    fingerprint = _fingerprint(root)
    splits = {}
    for name, folder in _FOLDERS.items():
        files, labels = _files(root / folder, classes)
        key = digest("imagefolder", fingerprint, name, size, mode)
        splits[name] = Split(labels, partial(decode_files, files, size, mode), key)
    return Dataset(classes, splits, mean, std, size, fingerprint)


def _classes(root: Path) -> tuple[str, ...]:
    """Names of the class folders, which must be the same in every split."""
    found = {}
    for folder in _FOLDERS.values():
        place = root / folder
        if not place.is_dir():
            raise DataError(f"no folder {place}", "images belong in root/{train,val,test}/<class>/")
        found[folder] = sorted(p.name for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
        if len(found[folder]) < 2:
            raise DataError(f"{len(found[folder])} class in {place}", "a classifier needs at least two class folders")
        odd = sorted(set(found[folder]) ^ set(found["train"]))
        if odd:
            raise DataError(f"classes of {place} differ from train: {', '.join(odd[:3])}")
    return tuple(found["train"])


def _files(folder: Path, classes: Sequence[str]) -> tuple[list[Path], Labels]:
    """Images and their labels, sorted by class and name."""
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in _SUFFIXES
    ]
    return [path for path, _ in found], np.array([label for _, label in found], dtype=np.int64)


def _fingerprint(root: Path) -> str:
    """Hash of the relative names and sizes of all files."""
    files = (path for folder in _FOLDERS.values() for path in sorted((root / folder).rglob("*")) if path.is_file())
    return files_fingerprint({path.relative_to(root).as_posix(): path.stat().st_size for path in files})
