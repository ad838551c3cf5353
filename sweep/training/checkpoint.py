"""Saves and loads the state of an unfinished training, so that it can resume."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from sweep.storage.files import write_atomic

State = dict[str, Any]


class Checkpointer(Protocol):
    """Stores the state that a training needs to resume in another process."""

    def load(self) -> State | None:
        """Load the state that was saved last; None if there is none."""

    def save(self, state: Callable[[], State]) -> None:
        """Save the state; an implementation may skip the call if it saved one recently."""


class TrainingCheckpoint:
    """The state of an unfinished training in a file beside the weights, rewritten every `interval` seconds."""

    def __init__(self, file: Path, device: torch.device, interval: float) -> None:
        self.file = file
        self.device = device
        self.interval = interval
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
        """Write the state if the last write is at least `interval` seconds ago."""
        if time.monotonic() - self.saved_at >= self.interval:
            content = io.BytesIO()
            torch.save(state(), content)
            write_atomic(self.file, content.getvalue())
            self.saved_at = time.monotonic()
