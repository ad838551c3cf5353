"""Files of results, written completely or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from analysis.core.errors import AnalysisError
from sweep.core.causes import explain
from sweep.core.masking import mask_known
from sweep.core.text import printable

_OF_FOLDERS = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS)


class CannotWriteError(AnalysisError):
    """A file or folder that cannot be written: the place is wrong, not the content."""


def make_folder(path: Path) -> None:
    """Make a folder unless it exists. Raises CannotWriteError."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_file(path: Path, content: str | bytes) -> None:
    """Write or replace a file in one step; an earlier one stays as it is if that fails.

    Texts are written without secrets, which earlier versions of `sweep` may have stored. Devices and pipes, such as
    /dev/stdout, are written as they are. Raises CannotWriteError with the cause.
    """
    content = mask_known(printable(content)).encode() if isinstance(content, str) else content
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        raise cannot_write(path, error) from error


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> CannotWriteError:
    """The error of a file that cannot be written, with what to do."""
    known = explain(error)
    hint = known.hint if known and error.errno not in _OF_FOLDERS else ""
    hint = hint or "does the folder exist, and is it writable? -o names another place"
    return CannotWriteError(printable(str(path)), f"cannot be written: {error.strerror or error}", hint)
