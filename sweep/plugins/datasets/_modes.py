"""Pictures of every mode -> grey or RGB of 8 bits, by one rule per mode; what has no clear rule is refused.

| mode | rule |
|---|---|
| 1, L, P, PA, RGB, RGBX, YCbCr, CMYK, LAB | as Pillow converts them; colour of 16 bits is read as its upper 8 bits |
| LA, La, RGBA, RGBa, P with transparency | transparency is dropped; the colours beneath it stay |
| I;16 (any byte order), I of a PGM | grey of 16 bits: value · 255 / 65535, rounded down; TIFF of 12 bits: / 4095 |
| F (TIFF, PFM) | values from 0 to 1 times 255, rounded; any other value is an error |
| I of a TIFF (32 bits, or 16 with a sign), all others | an error |

Grey TIFFs in which white is 0 are inverted. Of an animation or a file of several pages, the first picture is read.
The orientation that EXIF data name is ignored: pixels are read as they are stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sweep.core.dataset import DataError

_BY_PILLOW = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "CMYK", "LAB"}
_BY_WAY_OF = {"La": "LA", "LAB": "RGB"}  # Pillow has no direct conversion to grey
_PHOTOMETRIC = 262  # TIFF tags
_BITS_PER_SAMPLE = 258
_HINT = "save it with 8 or 16 bits per channel, for example as PNG"


def to_bytes(picture: Image.Image, mode: str, name: str) -> Image.Image:
    """The picture in mode L or RGB, by the rule of its own mode; raises DataError, with `name`, if it has none."""
    _check_maximum(picture, name)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        return _from_integers(picture, name).convert(mode)
    if picture.mode == "F":
        return _from_floats(picture, name).convert(mode)
    if picture.mode not in _BY_PILLOW:
        raise DataError(f"{name}: no rule how to read mode {picture.mode}{_range(picture)}", _HINT)
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert(_BY_WAY_OF.get(picture.mode, picture.mode)).convert(mode)


def _from_integers(picture: Image.Image, name: str) -> Image.Image:
    bits = _tag(picture, _BITS_PER_SAMPLE, (16,))[0]
    maximum = 2**bits - 1
    values = np.asarray(picture).astype(np.int64)
    if not 0 <= values.min() <= values.max() <= maximum:
        raise DataError(f"{name}: grey of {bits} bits{_range(picture)}", _HINT)
    if _is_white_zero(picture):
        values = maximum - values
    return Image.fromarray((values * 255 // maximum).astype(np.uint8))


def _from_floats(picture: Image.Image, name: str) -> Image.Image:
    values = np.asarray(picture).astype(np.float64)
    if not (values.min() >= 0 and values.max() <= 1):  # NaN is neither
        raise DataError(f"{name}: mode F{_range(picture)}: expected values from 0 to 1", f"divide them, or {_HINT}")
    if _is_white_zero(picture):
        values = 1 - values
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _is_white_zero(picture: Image.Image) -> bool:
    return bool(_tag(picture, _PHOTOMETRIC, 1) == 0)


def _tag(picture: Image.Image, tag: int, default: Any) -> Any:
    """A tag of a TIFF, or the default where there is none."""
    return getattr(picture, "tag_v2", {}).get(tag, default)


def _range(picture: Image.Image) -> str:
    """The smallest and largest value, for an error message."""
    values: NDArray[Any] = np.asarray(picture)
    return f" with values from {values.min():g} to {values.max():g}" if values.dtype.kind in "iuf" else ""


def _check_maximum(picture: Image.Image, name: str) -> None:
    """Raise DataError for a PGM or PPM with values above the maximum in its header, which Pillow would clip."""
    tile = getattr(picture, "tile", None)
    stream = getattr(picture, "fp", None)
    if not tile or tile[0].codec_name != "ppm" or stream is None:
        return
    maximum = tile[0].args[1]
    kind = np.dtype(np.uint8 if maximum < 256 else ">u2")
    count = picture.width * picture.height * len(picture.getbands())
    stream.seek(tile[0].offset)
    content = stream.read(count * kind.itemsize)
    values = np.frombuffer(content[: len(content) // kind.itemsize * kind.itemsize], kind)
    if values.max(initial=0) > maximum:
        what = f"{name}: a value of {values.max()} is above the maximum of {maximum} in its header"
        raise DataError(what, "write it again with the right maximum")
