"""What takes far longer than its like did in this run: who is at it, since when, and since when it is too long."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Iterator
from typing import Any

from sweep.core.text import format_duration

_TIMES = 10.0  # the median of what has ended: workers that compete for cores or discs differ less


class StragglerDetector:
    """Who is at what, and for how long; late is who takes ten times the median of what has ended, and `patience` s.

    Nobody is late before anything has ended. Times are those of `clock`, which never goes back.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience = patience
        self.clock = clock
        self.durations: list[float] = []  # seconds of what has ended, in order
        self.started_at: dict[Any, float] = {}
        self.reported: set[Any] = set()

    def start(self, who: Any) -> None:
        """Somebody begins something."""
        self.started_at[who] = self.clock()
        self.reported.discard(who)

    def finish(self, who: Any) -> None:
        """Somebody has ended what was begun."""
        if who in self.started_at:
            insort(self.durations, self.clock() - self.started_at.pop(who))

    def drop(self, who: Any) -> None:
        """Somebody is gone, and nothing has ended."""
        self.started_at.pop(who, None)

    def is_late(self, who: Any) -> bool:
        """Whether somebody is at something for too long."""
        since = self.started_at.get(who)
        return since is not None and bool(self.durations) and self.clock() - since > self._limit

    def new_stragglers(self) -> Iterator[tuple[Any, str]]:
        """Who is late and was not told yet, and for how long in words: `12 min, 20 times the median`."""
        for who, since in self.started_at.items():
            if who not in self.reported and self.is_late(who):
                self.reported.add(who)
                seconds = self.clock() - since
                yield who, f"{format_duration(seconds)}, {seconds / max(self._median, 1e-3):.0f} times the median"

    @property
    def _median(self) -> float:
        return self.durations[len(self.durations) // 2]

    @property
    def _limit(self) -> float:
        return max(self.patience, _TIMES * self._median)
