"""One driver at a time on a run folder, who it is, and how it is asked to stop."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sweep.core.provenance import now
from sweep.storage.files import StoreError, storage_errors, write_atomic

_FREE = "free, last held by "


@contextmanager
def hold(folder: Path, purpose: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a folder. Raises StoreError that says who holds it.

    The system frees the lock of a process that died; `say` is told who that was.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "a+", encoding="utf-8")  # noqa: SIM115 - it is held open as long as the lock
    with file:
        holder = _taken(file)
        if holder:
            raise StoreError(f"{folder} is in use by {holder}", "wait for it, or sweep stop it first")
        before = _written(file)
        if before and not before.startswith(_FREE):
            say(f"taking over from {before}, which ended without a word")
        told = f"{purpose}, process {os.getpid()} on {socket.gethostname()} since {now():%Y-%m-%d %H:%M:%S} UTC"
        _write(file, told)
        try:
            _request(folder).unlink(missing_ok=True)
            yield
        finally:
            _write(file, _FREE + told)


def request_stop(folder: Path) -> str:
    """Ask whoever holds the lock, on this host or another, to stop; who that is. StoreError where nobody does."""
    try:
        with open(folder / "lock", encoding="utf-8") as file:
            holder = _taken(file)
    except FileNotFoundError:
        holder = ""
    if not holder:
        raise StoreError(f"nothing is running on {folder}")
    write_atomic(_request(folder), holder.encode())
    return holder


def stop_requested(folder: Path) -> bool:
    """Whether `stop` was called since the lock was taken."""
    return _request(folder).exists()


def _request(folder: Path) -> Path:
    return folder / "stop"


def _taken(file: TextIO) -> str:
    """Take the lock, or say who holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _written(file) or "another process"
    return ""


def _written(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip()


def _write(file: TextIO, line: str) -> None:
    file.truncate(0)
    file.write(line)
    file.flush()
