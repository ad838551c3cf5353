"""A folder of one's own images: root/{train,val,test}/<class>/<image>."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from sweep.data import DataError, Dataset, Deviation, Fraction, Images, Pixels, Split

_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_LARGEST = 64_000_000  # pixels: a larger header is refused before it is decoded


def imagefolder(
    *,
    root: Path,
    size: Pixels = 224,
    mean: tuple[Fraction, ...] = (0.485, 0.456, 0.406),
    std: tuple[Deviation, ...] = (0.229, 0.224, 0.225),
) -> Dataset:
    """Images in root/{train,val,test}/<class>/, shorter side resized to `size`, centre cropped; grey for one mean.

    Raises DataError with the place for a missing folder, fewer than two classes, classes that differ between splits,
    and an image that cannot be read.
    """
    root = root.expanduser().absolute()
    if len(mean) not in (1, 3):
        raise DataError(f"{len(mean)} means: images are grey (1) or RGB (3)")
    classes = _classes(root)
    listing = {split: _files(root / folder, classes) for split, folder in _FOLDERS.items()}
    mode = "L" if len(mean) == 1 else "RGB"
    return Dataset(classes, {k: _split(v, size, mode) for k, v in listing.items()}, mean, std, size, _digest(root))


def _classes(root: Path) -> tuple[str, ...]:
    """Names of the class folders, the same in every split."""
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


def _files(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """(image, label), sorted by class and name."""
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in _SUFFIXES
    ]


def _split(files: Sequence[tuple[Path, int]], size: int, mode: str) -> Split:
    """Labels now, images decoded in parallel when asked for (Pillow lets go of the interpreter lock)."""

    def decode() -> Images:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(lambda file: _image(file[0], size, mode), files)))

    return Split(np.array([label for _, label in files], dtype=np.int64), decode)


def _image(path: Path, size: int, mode: str) -> Images:
    """(channels, size, size), uint8."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > _LARGEST:
                raise DataError(f"{path}: {picture.width} x {picture.height} pixels is beyond the bound of 64 million")
            return _cropped(_convertible(picture).convert(mode), size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read the image {path}: {error}", "replace it or take it out of the folder") from error


def _convertible(picture: Image.Image) -> Image.Image:
    """The picture in a mode that Pillow converts as one means: it would clip sixteen bits above 255 to white."""
    if picture.mode == "P" and "transparency" in picture.info:
        return picture.convert("RGBA")
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray((np.asarray(picture).astype(np.uint32) // 257).astype(np.uint8))


def _cropped(picture: Image.Image, size: int) -> Images:
    """Shorter side to `size`, then the centre."""
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized.crop((left, top, left + size, top + size)))
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _digest(root: Path) -> str:
    """Hash of relative names and sizes: it tells one content from another without reading the images."""
    digest = hashlib.sha256()
    for folder in _FOLDERS.values():
        for path in sorted((root / folder).rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()[:32]


ImageFile.LOAD_TRUNCATED_IMAGES = False  # a truncated image is told by name, never filled up with grey
