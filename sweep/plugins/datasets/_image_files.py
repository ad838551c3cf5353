"""Image files in folders: which are read, their digests, and one line about all that is not read."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep.core.dataset import DataError, warn_once
from sweep.core.hash_cache import iter_digests
from sweep.core.text import printable
from sweep.plugins.datasets._pictures import check_image

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_EXAMPLES = 3
HIDDEN = "hidden files or folders"
_OF_SYSTEMS = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
"""Folders that operating systems, network drives and archives add by themselves."""
OTHERS = "files with another suffix"
BELOW = "images in folders below a class"


class Ignored:
    """What lies in a data set's folder and is not read: counts by kind, each with its first examples."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, path: Path, count: int = 1) -> None:
        """Count what is at the path, or `count` files below it."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(str(path.relative_to(self.root)))

    def log(self) -> None:
        """Log all of it in one line."""
        if self.counts:
            parts = [f"{kind}: {count:,} ({self._list(kind)})" for kind, count in self.counts.items()]
            warn_once(printable(f"{self.root}: not read: {'; '.join(parts)}"))

    def _list(self, kind: str) -> str:
        more = ", …" if self.counts[kind] > len(self.examples[kind]) else ""
        return ", ".join(self.examples[kind]) + more


def images_in(folder: Path, ignored: Ignored) -> list[Path]:
    """The images of a class, sorted by name; links to files are followed. Raises DataError.

    A link that leads nowhere is listed, so that it is an error where it is read.
    """
    images = []
    for entry in sorted_entries(folder):
        path = folder / entry.name
        if is_hidden(entry.name):
            ignored.add(HIDDEN, path)
        elif is_folder(entry):
            count = count_images(path)
            ignored.add(BELOW if count else "folders below a class", path, count or 1)
        elif path.suffix.lower() in SUFFIXES and _is_file(entry):
            images.append(path)
        else:
            ignored.add(OTHERS, path)
    return images


def is_hidden(name: str) -> bool:
    """Whether a name is one of a hidden file, or of a folder that a system adds by itself."""
    return name.startswith(".") or name in _OF_SYSTEMS


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or a link that leads to one or nowhere; a pipe would block its reader for ever."""
    if not entry.is_symlink():
        return entry.is_file()
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def count_images(folder: Path) -> int:
    """Number of images in a folder and all folders below it, each counted once, also if links lead to it twice."""
    seen = set()
    count = 0
    for place, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(place)  # noqa: PTH116 - a text, as os.walk gives it
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        count += sum(os.path.splitext(file)[1].lower() in SUFFIXES for file in files)  # noqa: PTH122
    return count


def sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name. Raises DataError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error


def file_digests(files: Sequence[Path]) -> Iterator[str]:
    """sha256 of the bytes of each image; kept as long as the files do not change.

    Raises DataError for one that cannot be read, or that `check_image` refuses.
    """
    try:
        yield from iter_digests(files, "checked image", _checked_digest)
    except OSError as error:
        what = f"cannot read the image {os.fsdecode(error.filename)}: {error.strerror}"
        raise DataError(what, "replace it or take it out of the folder") from error


def _checked_digest(file: Path) -> str:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        check_image(content, str(file))
    return digest
