"""The lock of a run folder: one driver at a time, its name for others to read, and a request to stop."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from sweep.core.file_lock import file_lock
from sweep.core.masking import mask_secrets
from sweep.core.provenance import now
from sweep.storage.files import StoreError, storage_errors, write_atomic

_log = logging.getLogger(__name__)

_RELEASED = "free, last held by "


@contextmanager
def hold(folder: Path, purpose: str) -> Iterator[None]:
    """Hold the lock of a folder, with the owner's purpose, process and host written into it.

    Raises StoreError with the owner if another process has the lock. The system releases the lock of a process that
    dies; the log then names the dead owner.
    """
    with ExitStack() as stack:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                file = stack.enter_context(file_lock(folder / "lock", "a+", wait=False))
            except BlockingIOError:
                holder = _owner(folder)
                raise StoreError(f"{folder} is in use by {holder}", "wait for it, or sweep stop it first") from None
        previous = _read(file)
        if previous and not previous.startswith(_RELEASED):
            _log.info(f"taking over from {previous} (it died without releasing the lock)")
        process = f"process {os.getpid()} on {socket.gethostname()} since {now():%Y-%m-%d %H:%M:%S} UTC"
        owner = f"{mask_secrets(purpose)}, {process}"
        _write(file, owner)
        try:
            _stop_file(folder).unlink(missing_ok=True)
            yield
        finally:
            _write(file, _RELEASED + owner)


def request_stop(folder: Path) -> str:
    """Ask the process that has the lock, on this host or another, to stop; return its name.

    Raises StoreError if no process has the lock.
    """
    try:
        with file_lock(folder / "lock", "r", wait=False):
            is_running = False
    except BlockingIOError:
        is_running = True
    except FileNotFoundError:
        is_running = False
    if not is_running:
        raise StoreError(f"nothing is running on {folder}")
    owner = _owner(folder)
    write_atomic(_stop_file(folder), owner.encode())
    return owner


def stop_requested(folder: Path) -> bool:
    """Whether `request_stop` was called since the lock was taken."""
    return _stop_file(folder).exists()


def _stop_file(folder: Path) -> Path:
    return folder / "stop"


def _owner(folder: Path) -> str:
    """The text in the lock of a folder, without taking it."""
    return (folder / "lock").read_text("utf-8").strip() or "another process"


def _read(file: IO[Any]) -> str:
    file.seek(0)
    return str(file.read()).strip()


def _write(file: IO[Any], line: str) -> None:
    file.truncate(0)
    file.write(line)
    file.flush()
    os.fsync(file.fileno())  # so that another host reads this owner and not an earlier one
