"""What takes far longer than its like did in this run: who is at it, since when, and since when it is too long."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Iterator
from typing import Any

from sweep.core.text import clock

_TIMES = 10.0  # the median of what has ended: workers that compete for cores or discs differ less


class Watch:
    """Who is at what, and for how long; late is who takes ten times the median of what has ended, and `patience` s.

    Nobody is late before anything has ended. Times are those of `clock`, which never goes back.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience, self.clock = patience, clock
        self.took: list[float] = []  # seconds of what has ended, in order
        self.since: dict[Any, float] = {}
        self.told: set[Any] = set()

    def begin(self, who: Any) -> None:
        """Somebody begins something."""
        self.since[who] = self.clock()
        self.told.discard(who)

    def end(self, who: Any) -> None:
        """Somebody has ended what was begun."""
        if who in self.since:
            insort(self.took, self.clock() - self.since.pop(who))

    def forget(self, who: Any) -> None:
        """Somebody is gone, and nothing has ended."""
        self.since.pop(who, None)

    def is_late(self, who: Any) -> bool:
        """Whether somebody is at something for too long."""
        since = self.since.get(who)
        return since is not None and bool(self.took) and self.clock() - since > self._limit

    def news(self) -> Iterator[tuple[Any, str]]:
        """Who is late and was not told yet, and for how long in words: `12 min, 20 times the median`."""
        for who, since in self.since.items():
            if who not in self.told and self.is_late(who):
                self.told.add(who)
                seconds = self.clock() - since
                yield who, f"{clock(seconds)}, {seconds / max(self._median, 1e-3):.0f} times the median"

    @property
    def _median(self) -> float:
        return self.took[len(self.took) // 2]

    @property
    def _limit(self) -> float:
        return max(self.patience, _TIMES * self._median)
