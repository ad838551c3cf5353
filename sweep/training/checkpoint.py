"""Keeps and restores the state of a training that was interrupted."""

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
    """Where a training keeps what it needs to go on after its process was lost."""

    def load(self) -> State | None:
        """What was kept last, if anything."""

    def save(self, state: Callable[[], State]) -> None:
        """Keep the state, or let it be where it was kept a moment ago."""


class TrainingCheckpoint:
    """A training that is not done yet, as a file beside the weights, written anew every so many seconds."""

    def __init__(self, file: Path, device: torch.device, every: float) -> None:
        self.file = file
        self.device = device
        self.every = every
        self.kept = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """What was kept last; a damaged file counts as none, for the training then begins anew."""
        try:
            state: dict[str, Any] = torch.load(self.file, map_location=self.device, weights_only=True)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # torch answers damage with errors of many kinds
            return None
        return state

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write the state, unless that was done a moment ago."""
        if time.monotonic() - self.kept >= self.every:
            content = io.BytesIO()
            torch.save(state(), content)
            write_atomic(self.file, content.getvalue())
            self.kept = time.monotonic()
