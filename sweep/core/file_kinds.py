"""What a file is that stands where another kind is expected: empty, not downloaded, packed, or another program's."""

from __future__ import annotations

FIRST_BYTES = 512  # a tar archive names itself at byte 257
_AGAIN = "copy or download it again"
_PAGE = "an error or a login page was downloaded in its place: " + _AGAIN
_UNPACK = "unpack it and name the file in it"
_TEXTS = (
    (b"version https://git-lfs", "it is a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull"),
    (b"<!doctype html", "it is a web page", _PAGE),
    (b"<html", "it is a web page", _PAGE),
    (b"<?xml", "it is a text in XML", _PAGE),
)
"""Beginnings of texts in lower case -> what they are, and a hint."""
_BINARIES = (
    (b"\x1f\x8b", "it is compressed by gzip", _UNPACK),
    (b"BZh", "it is compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "it is compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "it is compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive", _UNPACK),
    (b"Rar!", "it is a rar archive", _UNPACK),
    (b"\x89HDF\r\n", "it is an HDF5 file", ""),
    (b"GGUF", "it is a GGUF file", ""),
    (b"\x93NUMPY", "it is a NumPy array", ""),
)


def foreign_kind(start: bytes) -> tuple[str, str]:
    """(what a file is, a hint) by its first 512 bytes, for kinds that hold neither weights nor an image; else empty."""
    if not start:
        return "it is empty", _AGAIN
    if not start.strip(b"\0"):
        return "it begins with zeros", "it was not written completely: " + _AGAIN
    if start[257:262] == b"ustar":
        return "it is a tar archive", _UNPACK
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    kinds = [each for each in _TEXTS if text.startswith(each[0])] + [
        each for each in _BINARIES if start.startswith(each[0])
    ]
    return kinds[0][1:] if kinds else ("", "")
