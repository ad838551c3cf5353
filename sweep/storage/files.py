"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.core.errors import UserError

if TYPE_CHECKING:
    pass
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def file_hash(file: Path) -> str:
    """sha256 of a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_TURN = ".turn"
NO_SPACE = "free some space and run the same command again: nothing is lost"


class StoreError(UserError):
    """A run folder that cannot be used."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Failures of the file system as StoreError that names the place."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        hint = NO_SPACE if error.errno == errno.ENOSPC else ""
        raise StoreError(f"cannot write {path}: {error.strerror or error}", hint) from error


def create_atomic(path: Path, content: bytes) -> bool:
    """Write a file whole or not at all; False where it exists already, which is left as it is.

    Temporary file in the same folder, fsync, link (which never overwrites), unlink, fsync of the folder.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        try:
            _write(temporary, content)
            placed = _place(temporary, path)
        finally:
            with suppress(OSError):  # what is wrong with the disc is told by what failed first
                temporary.unlink(missing_ok=True)
        fsync_dir(path.parent)
    return placed


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole in the place of an older one, for what describes the run and is no record."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        try:
            _write(temporary, content)
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        fsync_dir(path.parent)


def leftover_files(folder: Path, *, below: bool = True) -> list[Path]:
    """What killed writers left in a folder, and in those below it."""
    look = folder.rglob if below else folder.glob
    return sorted([*look(".*.tmp"), *look(_TURN)])


def _temporary(path: Path) -> Path:
    """A name that no other process takes, on this host or another."""
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _place(temporary: Path, path: Path) -> bool:
    """Give a written file its name unless that is taken; whether it was given."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _place_in_turn(temporary, path)
    return True


def _place_in_turn(temporary: Path, path: Path) -> bool:
    """As `_place` where there are no hard links: whoever renames waits for a turn, which ends with its process."""
    with open(path.with_name(_TURN), "a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if path.exists():
            return False
        temporary.rename(path)
    return True


def fsync_dir(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
