"""When an experiment of Tune ends after a request to stop: once the trainings that run have saved their state."""

from __future__ import annotations

import time
from collections.abc import Callable

SAVE_SECONDS = 15.0
"""How long running trainings may take for their last step and for writing their state."""


class TrainingStop:
    """Which trials run, and whether an experiment that was asked to stop may end.

    `announce` is called at the first look after the request: it asks the trials to save their state and end.
    """

    def __init__(self, stopping: Callable[[], bool], announce: Callable[[], None]) -> None:
        self.stopping = stopping
        self.announce = announce
        self.running: set[str] = set()
        self.awaited: set[str] | None = None
        self.asked_at = 0.0

    def start(self, trial: str) -> None:
        """Note that a trial runs."""
        self.running.add(trial)

    def finish(self, trial: str) -> None:
        """Note that a trial has ended."""
        self.running.discard(trial)

    def is_over(self) -> bool:
        """Whether the trials that ran at the request have ended, or had time to."""
        if not self.stopping():
            return False
        if self.awaited is None:
            self.awaited = set(self.running)
            self.asked_at = time.monotonic()
            self.announce()
        return not self.awaited & self.running or time.monotonic() - self.asked_at > SAVE_SECONDS
