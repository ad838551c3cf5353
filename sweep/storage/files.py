"""Files that are written completely or not at all, file locks, and hashes of files."""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from sweep.core.causes import describe, errno_hint
from sweep.core.errors import UserError
from sweep.core.file_lock import file_lock
from sweep.core.hash_cache import hash_bytes

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_FOLDER_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
_RENAME_LOCK = ".turn"
_NO_FILES = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)
_SETTLED_NS = 2_000_000_000  # a file changed less than 2 s ago may change again under the same time stamp


class StoreError(UserError):
    """A run folder that cannot be used."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raise failures of the file system as StoreError with the path."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}", errno_hint(error)) from error


def file_version(file: Path) -> tuple[int, int, int]:
    """Size, modification time (ns) and inode: equal as long as a file was neither changed nor replaced."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def is_settled(version: tuple[int, int, int]) -> bool:
    """Whether a file changed so long ago that another change would show in its version."""
    return time.time_ns() - version[1] > _SETTLED_NS


def cached_by_file(function: Callable[[Path], _T]) -> Callable[[Path], _T]:
    """Keep the results of a function of a file in this process until the file's version changes.

    Results of files that changed less than 2 s ago are not kept: another change may leave the time stamp as it is.
    """
    results: dict[Path, tuple[tuple[int, int, int], _T]] = {}

    @functools.wraps(function)
    def cached(file: Path) -> _T:
        version = file_version(file)
        known = results.get(file)
        if known is not None and known[0] == version:
            return known[1]
        result = function(file)
        if is_settled(version):
            results[file] = version, result
        return result

    return cached


def check_regular(file: Path) -> None:
    """Raise StoreError unless a file can be opened without waiting: a pipe would block for ever.

    Says what is in its place: nothing, a link that leads nowhere, a folder, or a file that this user may not read.
    """
    try:
        mode = file.stat().st_mode
    except OSError as error:
        is_link = isinstance(error, FileNotFoundError) and file.is_symlink()
        reason = f"it is a link to {file.readlink()}, which is missing" if is_link else error.strerror
        raise StoreError(f"cannot read {file}: {reason}", "" if is_link else errno_hint(error)) from None
    kind = next((name for is_kind, name in _NO_FILES if is_kind(mode)), "")
    if kind:
        raise StoreError(f"cannot read {file}: it is a {kind}, not a file", "name the file itself")
    if not os.access(file, os.R_OK):
        raise StoreError(f"cannot read {file}: {os.strerror(errno.EACCES)}", "give this user the permission to read it")


def with_path(file: Path, error: Exception) -> str:
    """An error of a file in one line with its path; with the file and line of a user's own code if it began there."""
    text = str(error) if isinstance(error, UserError) else describe(error)
    return text if str(file) in text else f"cannot read {file}: {text}"


file_hash = cached_by_file(hash_bytes)
"""sha256 of a file's content; an unchanged file is read once per process."""


def create_atomic(path: Path, content: bytes) -> bool:
    """Create a file with all of its content or not at all; False if it exists already, and then it stays as it is.

    Writes a temporary file in the same folder, then fsync, link (which never overwrites), unlink, fsync of the folder.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(path)
        try:
            _write(temporary, content)
            created = _link(temporary, path)
        finally:
            with suppress(OSError):  # the first error is the one to report
                temporary.unlink(missing_ok=True)
        fsync_dir(path.parent)
    return created


def write_atomic(path: Path, content: bytes) -> None:
    """Write or replace a file in one step, for files that describe the run and are no records."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(path)
        try:
            _write(temporary, content)
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        fsync_dir(path.parent)


def leftover_files(folder: Path, *, below: bool = True) -> list[Path]:
    """Files that killed writers left in a folder, and in the folders below it."""
    search = folder.rglob if below else folder.glob
    return sorted([*search(".*.tmp"), *search(_RENAME_LOCK)])


def _temporary_name(path: Path) -> Path:
    """A name that no other process uses, on this host or another."""
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


def _write(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _link(temporary: Path, path: Path) -> bool:
    """Give a written file its final name; False if the name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_locked(temporary, path)
    return True


def _rename_locked(temporary: Path, path: Path) -> bool:
    """As `_link` on file systems without hard links: a lock on the folder keeps renames from overwriting."""
    with file_lock(path.with_name(_RENAME_LOCK)):
        if path.exists():
            return False
        temporary.rename(path)
    return True


def fsync_dir(folder: Path) -> None:
    """Write the names in a folder to the disk, where its file system can.

    Some network and FUSE file systems refuse this for folders. Then the newest files may be missing after a power
    failure, as the log says, and are made again.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FSYNC:
            raise
        _warn_of_folders()
    finally:
        os.close(descriptor)


@functools.cache
def _warn_of_folders() -> None:
    """Log once per process what a power failure costs."""
    _log.warning(
        "the file system cannot write folders to the disk (fsync): after a power failure the newest files may be "
        "missing, and the same command makes them again"
    )
