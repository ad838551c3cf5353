"""One rule per mode of pictures: exact values, nothing clipped, and a refusal by name where there is no rule."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sweep.core.dataset import DataError
from sweep.plugins.datasets._pictures import decode_image

Array = NDArray[Any]
SIZE = 4
BYTES = (np.arange(16, dtype=np.uint8) * 17).reshape(SIZE, SIZE)
DEEP = (np.arange(16, dtype=np.uint16) * 4369).reshape(SIZE, SIZE)


def encode(image: Image.Image | Array, form: str, **more: Any) -> bytes:
    sink = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(sink, form, **more)
    return sink.getvalue()


def decode(content: bytes, mode: str = "L") -> Array:
    pixels = decode_image(content, "a.picture", SIZE, mode)
    return pixels[0] if mode == "L" else pixels.transpose(1, 2, 0)


def pgm(values: Array, maximum: int, magic: str = "P5") -> bytes:
    head = f"{magic}\n{SIZE} {SIZE}\n{maximum}\n".encode()
    if magic in ("P2", "P3"):
        return head + " ".join(map(str, values.ravel())).encode() + b"\n"
    return head + values.astype(">u2" if maximum > 255 else np.uint8).tobytes()


def tiff(values: Array, order: str, bits: int, *, white_is_zero: bool = False, sample_format: int = 1) -> bytes:
    """A grey TIFF of one strip; `order` is < or >. Values of 12 bits are packed, two into three bytes."""
    content = values.astype(f"{order}{values.dtype.kind}{values.dtype.itemsize}").tobytes()
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        content = b"".join(int(first << 12 | second).to_bytes(3, "big") for first, second in pairs)
    entries = [
        *((256, 4, SIZE), (257, 4, SIZE), (258, 4, bits), (259, 4, 1), (262, 4, 0 if white_is_zero else 1)),
        *((273, 4, 8 + 2 + 12 * 10 + 4), (277, 4, 1), (278, 4, SIZE), (279, 4, len(content)), (339, 4, sample_format)),
    ]
    head = (
        (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(entries))
    )
    body = b"".join(struct.pack(f"{order}HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return head + body + struct.pack(f"{order}I", 0) + content


FLOATS = (BYTES / 255).astype(np.float32)
GREY: dict[str, bytes] = {
    "L": encode(BYTES, "PNG"),
    "LA": encode(Image.fromarray(np.dstack([BYTES, BYTES.T]), "LA"), "PNG"),
    "P": encode(Image.fromarray(BYTES).convert("P"), "PNG"),
    "RGB": encode(Image.fromarray(BYTES).convert("RGB"), "PNG"),
    "RGBA": encode(Image.fromarray(np.dstack([BYTES] * 3 + [BYTES.T])), "PNG"),
    "16 bits, PNG": encode(DEEP, "PNG"),
    "16 bits, TIFF, little-endian": tiff(DEEP, "<", 16),
    "16 bits, TIFF, big-endian": tiff(DEEP, ">", 16),
    "16 bits, TIFF, white is zero": tiff(65535 - DEEP, "<", 16, white_is_zero=True),
    "12 bits, TIFF": tiff(np.ceil(BYTES * (4095 / 255)).astype(np.uint16), "<", 12),
    "16 bits, PGM": pgm(DEEP, 65535),
    "16 bits, PGM of text": pgm(DEEP, 65535, "P2"),
    "10 bits, PGM": pgm(BYTES.astype(int) * 1020 // 255, 1020),
    "10 bits, PGM of text": pgm(BYTES.astype(int) * 1020 // 255, 1020, "P2"),
    "7 bits, PGM": pgm(BYTES // 17, 15),
    "float, TIFF": encode(FLOATS, "TIFF"),
    "float, TIFF, big-endian": tiff(FLOATS, ">", 32, sample_format=3),
    "float, TIFF, white is zero": tiff(1 - FLOATS, "<", 32, white_is_zero=True, sample_format=3),
    "float, PFM": encode(FLOATS, "PPM"),
}


@pytest.mark.parametrize("kind", GREY)
def test_every_kind_of_grey_is_read_to_the_same_values(kind: str) -> None:
    assert np.array_equal(decode(GREY[kind]), BYTES)
    assert np.array_equal(decode(GREY[kind], "RGB"), np.dstack([BYTES] * 3))


def test_one_bit_is_black_or_white() -> None:
    assert np.array_equal(decode(encode(Image.fromarray(BYTES > 100), "PNG")), np.where(BYTES > 100, 255, 0))


def test_values_of_sixteen_bits_are_rounded_down() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for content in (encode(values, "PNG"), encode(values, "TIFF"), encode(values, "PPM")):
        assert np.array_equal(decode_image(content, "x", 256, "L")[0], values // 257)


def test_transparency_is_dropped_and_the_colours_beneath_stay() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 4), dtype=np.uint8)
    for form in ("PNG", "TIFF"):
        assert np.array_equal(decode(encode(colours, form), "RGB"), colours[..., :3])
    palette = Image.fromarray(colours[..., :3]).quantize(16)
    plain = decode(encode(palette, "PNG"), "RGB")
    for transparency in (3, bytes(range(16))):
        assert np.array_equal(decode(encode(palette, "PNG", transparency=transparency), "RGB"), plain)


def test_colour_of_sixteen_bits_is_read_as_its_upper_bits() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (SIZE, SIZE, 3), dtype=np.uint16)
    content = f"P6 {SIZE} {SIZE} 65535\n".encode() + values.astype(">u2").tobytes()
    assert np.array_equal(decode(content, "RGB"), np.rint(values / 65535 * 255))
    assert decode(pgm(values, 65535, "P3"), "RGB").shape == (SIZE, SIZE, 3)


def test_ink_and_lab_become_rgb() -> None:
    ink = Image.new("CMYK", (SIZE, SIZE), (255, 0, 0, 0))
    assert decode(encode(ink, "TIFF"), "RGB")[0, 0].tolist() == [0, 255, 255]
    lab = encode(Image.new("LAB", (SIZE, SIZE), (255, 128, 128)), "TIFF")
    assert decode(lab, "RGB").min() > 240
    assert decode(lab, "L").min() > 240


def test_the_orientation_in_exif_data_is_ignored() -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be shown turned by 90 degrees
    assert np.array_equal(decode(encode(BYTES, "PNG", exif=exif)), BYTES)


REFUSED: dict[str, tuple[bytes, str]] = {
    "32 bits": (
        encode(BYTES.astype(np.int32) * 1000, "TIFF"),
        "no rule how to read mode I with values from 0 to 255000",
    ),
    "with a sign": (
        tiff(BYTES.astype(np.int16) - 9, "<", 16, sample_format=2),
        "no rule how to read mode I with values from -9 to 246",
    ),
    "floats to 255": (
        encode(BYTES.astype(np.float32), "TIFF"),
        "mode F with values from 0 to 255: expected values from 0 to 1",
    ),
    "negative floats": (encode(FLOATS - 0.5, "TIFF"), "mode F with values from -0.5 to 0.5"),
    "not a number": (encode(FLOATS * np.float32("nan"), "TIFF"), "mode F with values from nan to nan"),
    "infinite": (encode(FLOATS + np.float32("inf"), "TIFF"), "mode F with values from inf to inf"),
    "floats of a PFM": (encode(FLOATS * 9, "PPM"), "mode F with values from 0 to 9"),
    "above the maximum": (pgm(DEEP, 1023), "a value of 65535 is above the maximum of 1023 in its header"),
    "bytes above it": (pgm(BYTES, 100), "a value of 255 is above the maximum of 100 in its header"),
    "colour above it": (pgm(np.dstack([BYTES] * 3), 100, "P6"), "a value of 255 is above the maximum of 100"),
    "text above it": (pgm(BYTES, 100, "P2"), "cannot read the image a.picture"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_has_no_rule_is_refused_with_its_range(kind: str, mode: str) -> None:
    content, message = REFUSED[kind]
    with pytest.raises(DataError) as raised:
        decode(content, mode)
    assert message in str(raised.value)
    assert "a.picture" in str(raised.value)
    assert raised.value.hint


def test_a_name_that_is_no_utf8_can_be_shown() -> None:
    with pytest.raises(DataError) as raised:
        decode_image(b"", "caf\udce9.png", SIZE, "L")
    assert "caf\\udce9.png" in str(raised.value)
