"""Requests to end a process: the exception that a request becomes, its exit codes, and handlers of signals."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_REQUEUE = 75
"""EX_TEMPFAIL of sysexits.h: the same command, started again, goes on."""

Handler = Callable[[int, FrameType | None], None]
_SIGACTION_BYTES = 1024
"""More than `struct sigaction` has on any system; nothing in it is read here."""

_RESTORE_SECONDS = 0.01


class StoppedError(KeyboardInterrupt):
    """A run ends before it is done, because it was asked to; `code` is the exit code that says so."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(f"stopped by {reason}")
        self.reason = reason
        self.code = code


@contextmanager
def handled(number: signal.Signals, handler: Handler) -> Iterator[None]:
    """Handle a signal for a while; outside the main thread nothing changes, since no signal arrives there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def raised_termination(code: int) -> Iterator[None]:
    """Raise StoppedError with this exit code at SIGTERM."""

    def on_termination(number: int, frame: FrameType | None) -> NoReturn:
        raise StoppedError("SIGTERM", code)

    with handled(signal.SIGTERM, on_termination):
        yield


@contextmanager
def unchanged_handler(number: signal.Signals) -> Iterator[None]:
    """Undo within milliseconds what a native library does to the handler of a signal.

    It works in any thread, unlike `signal.signal`.
    """
    system = ctypes.CDLL(None)
    before = ctypes.create_string_buffer(_SIGACTION_BYTES)
    system.sigaction(int(number), None, before)
    is_ended = threading.Event()

    def restore() -> None:
        while not is_ended.wait(_RESTORE_SECONDS):
            system.sigaction(int(number), before, None)

    thread = threading.Thread(target=restore, name="signal-handler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_ended.set()
        thread.join()
        system.sigaction(int(number), before, None)
