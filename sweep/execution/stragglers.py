"""Detects stragglers: workers whose task takes far longer than the finished tasks of the run."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from sweep.core.text import format_duration

_MEDIAN_FACTOR = 10.0  # tasks that compete for cores or disks differ by less


class StragglerDetector:
    """Tracks how long each worker has run its current task.

    A worker is late once its task has taken more than `patience` seconds and more than ten times the median of the
    finished tasks of its kind (an MLP is no measure for a ViT), or of the longest task where none of its kind has
    finished. Before any task has finished, no worker is late. `clock` must be monotonic.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience = patience
        self.clock = clock
        self.durations: dict[Hashable, list[float]] = {}  # kind -> seconds of finished tasks, ascending
        self.started_at: dict[Any, float] = {}
        self.kinds: dict[Any, Hashable] = {}  # worker -> kind of its latest task
        self.reported: set[Any] = set()

    def start(self, worker: Any, kind: Hashable = None) -> None:
        """Record that a worker starts a task of a kind that takes about the same time."""
        self.started_at[worker] = self.clock()
        self.kinds[worker] = kind
        self.reported.discard(worker)

    def finish(self, worker: Any) -> None:
        """Record that a worker has finished its task."""
        if worker in self.started_at:
            insort(self.durations.setdefault(self.kinds[worker], []), self.clock() - self.started_at.pop(worker))

    def drop(self, worker: Any) -> None:
        """Forget a worker that is gone, without counting its task as finished."""
        self.started_at.pop(worker, None)

    def is_late(self, worker: Any) -> bool:
        """Whether the task of a worker takes too long."""
        started_at = self.started_at.get(worker)
        return started_at is not None and bool(self.durations) and self.clock() - started_at > self._limit(worker)

    def new_stragglers(self) -> Iterator[tuple[Any, str]]:
        """Yield each late worker once per task, with the duration in words: `12 min, 20 times the median`."""
        for worker, started_at in self.started_at.items():
            if worker not in self.reported and self.is_late(worker):
                self.reported.add(worker)
                seconds = self.clock() - started_at
                yield worker, f"{format_duration(seconds)}, {self._compared(worker, seconds)}"

    def _compared(self, worker: Any, seconds: float) -> str:
        """A duration in words, as a multiple of what it is compared with."""
        what = "the median" if self.kinds[worker] in self.durations else "the longest"
        return f"{seconds / max(self._usual(worker), 1e-3):.0f} times {what}"

    def _usual(self, worker: Any) -> float:
        """The median of the finished tasks of a worker's kind, or the longest of all."""
        own = self.durations.get(self.kinds[worker])
        return own[len(own) // 2] if own else max(kind[-1] for kind in self.durations.values())

    def _limit(self, worker: Any) -> float:
        return max(self.patience, _MEDIAN_FACTOR * self._usual(worker))
