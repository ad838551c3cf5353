"""Pictures in files and arrays -> uint8 images of one size, in pieces and in parallel (Pillow lets go of the lock)."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from sweep.core.dataset import DataError, Images

PIECE = 1024  # images: what is decoded at a time
_LARGEST = 64_000_000  # pixels: a larger header is refused before it is decoded
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # of the others, some are handed to other programs


def decoded(files: Sequence[Path], size: int, mode: str) -> Iterator[Images]:
    """Images of files, shorter side to `size`, centre cropped; mode is L or RGB.

    Raises DataError that names the file that cannot be read.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), PIECE):
            chosen = files[start : start + PIECE]
            yield np.stack(list(pool.map(partial(_of_file, size=size, mode=mode), chosen)))


def _of_file(path: Path, size: int, mode: str) -> Images:
    return of_bytes(path, str(path), size, mode)


def of_bytes(source: Path | bytes, name: str, size: int, mode: str) -> Images:
    """One encoded picture, (channels, size, size), uint8; `name` is what the error says."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as picture:
            if picture.width * picture.height > _LARGEST:
                raise DataError(f"{name}: {picture.width} x {picture.height} pixels is beyond the bound of 64 million")
            return _cropped(_convertible(picture).convert(mode), size)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow answers damage with errors of many kinds
        raise DataError(f"cannot read the image {name}: {error}", "replace it or take it out of the folder") from error


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
    left = (width - size) // 2
    top = (height - size) // 2
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized.crop((left, top, left + size, top + size)))
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def resized(images: Images, size: int) -> Images:
    """(examples, channels, side, side) -> (examples, channels, size, size), bilinear, each channel for itself."""
    if size == images.shape[-1]:
        return images
    planes = images.reshape(-1, *images.shape[2:])
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:  # a task is many planes: one alone is done faster than it is handed over
        done = pool.map(partial(_planes, size=size), np.array_split(planes, min(workers, len(planes))))
        return np.concatenate(list(done)).reshape(*images.shape[:2], size, size)


def _planes(planes: Images, size: int) -> Images:
    made = np.empty((len(planes), size, size), dtype=np.uint8)
    for plane, place in zip(planes, made, strict=True):
        place[:] = np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR))
    return made


ImageFile.LOAD_TRUNCATED_IMAGES = False  # a truncated image is told by name, never filled up with grey
