"""The one lock between processes."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sweep.core.errors import UserError

RUN_INFO_LOCK = ".run.json.lock"
"""The file beside run.json that is locked by what replaces it: a run, and `analysis`, which adds looks at claims."""


_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
_HINT = "mount it with locks (Lustre: -o flock, NFS: with its lock service), or choose another place"


class NoLocksError(UserError):
    """A file system that cannot lock files, on which two runs could write at once."""


@contextmanager
def file_lock(file: Path, mode: str = "a", *, wait: bool = True) -> Iterator[IO[Any]]:
    """Open a file and hold a lock on it; the system releases the lock when the process dies.

    The lock is exclusive, but shared for mode "r", since NFS grants exclusive locks on writable files only. Raises
    BlockingIOError if another process has the lock and `wait` is false, NoLocksError where the file system has no
    locks, and OSError as `open` does.

    The package `filelock` is no replacement: it polls where this waits in the kernel, hides the open file, into which
    the run folder's lock writes its owner and a download its bytes, cannot lock a file that it may only read, and
    falls back to a marker file, which outlives a dead owner, where a file system has no flock.
    """
    kind = fcntl.LOCK_SH if mode == "r" else fcntl.LOCK_EX
    with open(file, mode, encoding=None if "b" in mode else "utf-8") as opened:
        try:
            fcntl.flock(opened, kind if wait else kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise NoLocksError(f"the file system of {file} cannot lock files: {error.strerror}", _HINT) from None
        yield opened
