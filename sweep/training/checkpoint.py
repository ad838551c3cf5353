"""Saves and loads the state of an unfinished training, so that it can resume."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from sweep.storage.files import write_atomic

State = dict[str, Any]


class TrainingStoppedError(Exception):
    """The training has to end before it is done; its state is saved."""


class SaveTimes(NamedTuple):
    """When the state of a training is saved: every so many seconds, and a last time once `is_stopped` returns true."""

    seconds: float = 30.0
    is_stopped: Callable[[], bool] = lambda: False


DEFAULT_SAVE_TIMES = SaveTimes()


class Checkpointer(Protocol):
    """Stores the state that a training needs to resume in another process."""

    def load(self) -> State | None:
        """Load the state that was saved last; None if there is none."""

    def save(self, state: Callable[[], State]) -> None:
        """Save the state, unless that was done recently. Raises TrainingStoppedError, after a save, to end it."""


class TrainingCheckpoint:
    """The state of an unfinished training in a file beside the weights, rewritten at the given times."""

    def __init__(self, file: Path, device: torch.device, times: SaveTimes) -> None:
        self.file = file
        self.device = device
        self.times = times
        self.saved_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Load the state that was saved last; None, so that training starts over, if it is missing or damaged."""
        try:
            state: dict[str, Any] = torch.load(self.file, map_location=self.device, weights_only=True)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # torch raises errors of many types for damaged files
            return None
        return state

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state if it is time. Raises TrainingStoppedError."""
        is_stopped = self.times.is_stopped()
        if is_stopped or time.monotonic() - self.saved_at >= self.times.seconds:
            content = io.BytesIO()
            torch.save(state(), content)
            write_atomic(self.file, content.getvalue())
            self.saved_at = time.monotonic()
        if is_stopped:
            raise TrainingStoppedError
