"""Runs the calls of a tracker in a thread, so that a sweep does not wait for MLflow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from sweep.tracking.model_registry import import_export_libraries
from sweep.tracking.tracker import Tracker

_CANCEL_SECONDS = 10.0
"""How long a run that was stopped waits for the call that its tracker is in."""


class BackgroundTracker:
    """Calls a tracker in a thread of its own, one call after the other. Only `close` waits.

    The thread ends with the process: what it has not written then, `sweep sync` writes.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED"
        self._progress: tuple[int, int, int, float] | None = None  # the latest that is not reported yet
        self._thread = threading.Thread(target=self._run_calls, name="mlflow", daemon=True)
        self._thread.start()
        self.submit(tracker.open)

    def submit(self, call: Callable[[], object]) -> None:
        """Run a call after those before it. It must not raise."""
        self._calls.put(call)

    def mirror_members(self, folder: Path, models: int) -> None:
        """Write the runs of the members; then import what the export of models needs, which takes seconds."""
        self.submit(lambda: self.tracker.mirror_members(folder))
        if models:
            self.submit(import_export_libraries)

    def progress(self, done: int, failed: int, total: int, rate: float) -> None:
        """Report progress; while the thread is busy, only the latest is kept."""
        is_waiting = self._progress is not None
        self._progress = (done, failed, total, rate)
        if not is_waiting:
            self.submit(self._report_progress)

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the run of the sweep after all other calls, and wait.

        A status but FINISHED cuts mirrors short, also one for which an earlier call waits, and waits for seconds only.
        """
        self._status = status
        if status != "FINISHED":
            self.tracker.cancelled = True
        self.submit(lambda: self.tracker.close(self._status))
        self._calls.put(None)
        self._thread.join(None if status == "FINISHED" else _CANCEL_SECONDS)

    def _report_progress(self) -> None:
        progress = self._progress
        self._progress = None
        if progress is not None:
            self.tracker.progress(*progress)

    def _run_calls(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
