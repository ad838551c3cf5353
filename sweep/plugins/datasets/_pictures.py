"""Image files and arrays -> uint8 images of one size, in pieces and in parallel threads (Pillow releases the GIL)."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from sweep.core.dataset import DataError, Images
from sweep.core.file_kinds import FIRST_BYTES, foreign_kind
from sweep.plugins.datasets._modes import to_bytes

PIECE = 1024  # images decoded at a time
_LARGEST = 64_000_000  # pixels: larger images are refused by their header, before they are decoded
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # for some other formats Pillow starts other programs
_ENDS = {
    b"\xff\xd8\xff": b"\xff\xd9",  # JPEG
    b"\x89PNG\r\n\x1a\n": b"IEND\xaeB`\x82",
    b"GIF8": b";",
    b"II*\0": b"",  # TIFF: its end shows nothing
    b"MM\0*": b"",
}
"""First bytes of images -> last bytes of those that are whole."""
_SIZES = {b"BM": (2, 0), b"RIFF": (4, 8)}
"""First bytes of BMP and WebP -> where their size is written, and how many bytes it leaves out."""
_SHOWN_BYTES = 8  # at the start and the end, that show whether an image is whole
_LEAVE_OUT = "take it out of the folder"
_HINT = f"replace it or {_LEAVE_OUT}"


def check_image(content: BinaryIO, name: str) -> None:
    """Raise DataError, as `decode_image` does, for an image that its first and last bytes show to be none or cut off.

    What does not look whole is decoded, so that only what cannot be decoded is an error.
    """
    content.seek(0)
    start = content.read(_SHOWN_BYTES)
    size = content.seek(0, os.SEEK_END)
    content.seek(max(0, size - _SHOWN_BYTES))
    if not _looks_whole(start, content.read(), size):
        content.seek(0)
        decode_image(content.read(), name, 1, "RGB")


def _looks_whole(start: bytes, end: bytes, size: int) -> bool:
    """Whether the first and last bytes of a file are those of a complete image."""
    for first, last in _ENDS.items():
        if start.startswith(first):
            return end.endswith(last)
    for first, (place, left_out) in _SIZES.items():
        if start.startswith(first):
            return int.from_bytes(start[place : place + 4], "little") + left_out <= size
    return False


def decode_files(files: Sequence[Path], size: int, mode: str) -> Iterator[Images]:
    """Images of files, shorter side to `size`, centre cropped; mode is L or RGB.

    Raises DataError that names the file that cannot be read.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), PIECE):
            chosen = files[start : start + PIECE]
            yield np.stack(list(pool.map(partial(_decode_file, size=size, mode=mode), chosen)))


def _decode_file(path: Path, size: int, mode: str) -> Images:
    return decode_image(path, str(path), size, mode)


def decode_image(source: Path | bytes, name: str, size: int, mode: str) -> Images:
    """One encoded image as (channels, size, size), uint8; `name` is for the error message."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as picture:
            if picture.width * picture.height > _LARGEST:
                raise DataError(f"{name}: {picture.width} x {picture.height} pixels is beyond the bound of 64 million")
            return _crop(to_bytes(picture, mode, name), size)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many kinds of errors for damaged files
        what, hint = _foreign_kind(source) if isinstance(error, UnidentifiedImageError) else (str(error), "")
        raise DataError(
            f"cannot read the image {name}: {what}", f"{hint}, or {_LEAVE_OUT}" if hint else _HINT
        ) from error


def _foreign_kind(source: Path | bytes) -> tuple[str, str]:
    """What a file or its bytes are that Pillow does not know, and a hint."""
    if isinstance(source, Path):
        with source.open("rb") as opened:
            source = opened.read(FIRST_BYTES)
    what, hint = foreign_kind(source[:FIRST_BYTES])
    return what or f"it is none of {', '.join(_FORMATS)}", hint


def _crop(picture: Image.Image, size: int) -> Images:
    """The centre of the image, after its shorter side is resized to `size`."""
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    left = (width - size) // 2
    top = (height - size) // 2
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized.crop((left, top, left + size, top + size)))
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def resized(images: Images, size: int) -> Images:
    """(examples, channels, side, side) -> (examples, channels, size, size), bilinear, each channel separately."""
    if size == images.shape[-1]:
        return images
    planes = images.reshape(-1, *images.shape[2:])
    workers = os.cpu_count() or 1
    # Many planes per task: starting a task takes longer than one plane.
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(partial(_planes, size=size), np.array_split(planes, min(workers, len(planes))))
        return np.concatenate(list(done)).reshape(*images.shape[:2], size, size)


def _planes(planes: Images, size: int) -> Images:
    made = np.empty((len(planes), size, size), dtype=np.uint8)
    for plane, place in zip(planes, made, strict=True):
        place[:] = np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR))
    return made


ImageFile.LOAD_TRUNCATED_IMAGES = False  # a truncated image is an error, not filled with grey
