"""Pictures of every mode and size are read; what is damaged, too large or no picture is refused by its name."""

from __future__ import annotations

import io
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from sweep.core.dataset import DataError
from sweep.plugins.datasets._pictures import _looks_whole, check_image, decode_image
from tests.helpers.hostile import often, outcome


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = (12, 9), **more: Any) -> bytes:
    sink = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode).save(sink, form, **more)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("JPEG", "CMYK"), ("JPEG", "L"), ("TIFF", "I;16"), ("PNG", "I;16"), ("PNG", "1"), ("PNG", "P"), ("GIF", "P")),
        *(("PNG", "LA"), ("PNG", "RGBA"), ("TIFF", "CMYK"), ("WEBP", "RGBA"), ("BMP", "RGB")),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (12, 9)])
def test_pictures_of_every_mode_and_shape_are_read(form: str, mode: str, size: tuple[int, int]) -> None:
    if mode == "I;16":
        sink = io.BytesIO()
        Image.fromarray(np.full(size[::-1], 65535, dtype=np.uint16)).save(sink, form)
        content = sink.getvalue()
    else:
        content = picture(form, mode, size)
    for wanted in ("L", "RGB"):
        pixels = decode_image(content, "x", 8, wanted)
        assert (pixels.shape, pixels.dtype) == ((len(wanted), 8, 8), np.uint8)


def test_the_first_picture_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    for form in ("GIF", "WEBP", "TIFF", "PNG"):
        sink = io.BytesIO()
        frames[0].save(
            sink, form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
        )
        red, _, blue = decode_image(sink.getvalue(), "x", 4, "RGB")[:, 0, 0]
        assert (red, blue) == (255, 0) if form == "WEBP" else red > 250 > blue


def test_pictures_beyond_the_bound_are_refused_unread() -> None:
    large = Image.new("1", (20_000, 20_000))
    sink = io.BytesIO()
    large.save(sink, "PNG")
    assert len(sink.getvalue()) < 1 << 20
    with pytest.raises(DataError, match=r"^(cannot read the image )?huge\.png: "):
        decode_image(sink.getvalue(), "huge.png", 8, "L")


def test_what_another_program_would_read_is_no_picture(tmp_path: Path) -> None:
    """PostScript is a program: Pillow would hand it to an interpreter."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) print\nshowpage\n"
    with pytest.raises(DataError, match=r"^cannot read the image a\.png: "):
        decode_image(script, "a.png", 8, "RGB")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_what_is_cut_off_is_found_without_decoding_what_is_whole(form: str) -> None:
    """An image is refused only if it cannot be decoded; of a TIFF the end shows nothing."""
    content = picture(form, size=(40, 30))
    assert _looks_whole(content[:8], content[-8:], len(content))
    refused = 0
    for length in range(0, len(content), 7):
        cut = content[:length]
        _, found = outcome(partial(check_image, io.BytesIO(cut), "x"), DataError)
        _, expected = outcome(partial(decode_image, cut, "x", 1, "RGB"), DataError)
        assert found is None or str(found) == str(expected)
        refused += found is not None
    assert refused > (0 if form == "TIFF" else 0.9 * len(content) // 7)


FORMS = st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
CACHED = cache(picture)


@given(
    FORMS,
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.none() | st.integers(0, 10**6),
)
@often(400)
@example("PNG", [], 0)
def test_damaged_pictures_are_refused_by_name_or_read(
    form: str, changes: list[tuple[int, int]], cut: int | None
) -> None:
    content = bytearray(CACHED(form))
    for place, value in changes:
        content[place % len(content)] = value
    if cut is not None:
        content = content[: cut % len(content)]
    pixels, error = outcome(lambda: decode_image(bytes(content), "x.png", 8, "RGB"), DataError)
    assert "x.png" in str(error) if error else pixels.shape == (3, 8, 8)
