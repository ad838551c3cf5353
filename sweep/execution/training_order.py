"""Which training comes next: starts first, and members as soon as their start is trained. Without Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from sweep.plan.pools import TrainingGroup


class TrainingOrder:
    """Groups that are not trained yet. `without_start` collects those whose start failed: they cannot be trained."""

    def __init__(self, groups: Iterable[TrainingGroup]) -> None:
        groups = list(groups)
        starts = {group.id for group in groups if group.members[0].role == "start"}
        self._ready = deque(group for group in groups if group.id in starts)
        self._by_start: dict[str, list[TrainingGroup]] = {start: [] for start in starts}
        self.without_start: list[TrainingGroup] = []
        for group in groups:
            start_id = group.members[0].start_id
            if start_id in starts:
                self._by_start[start_id].append(group)
            elif group.id not in starts:
                self._ready.append(group)

    @property
    def is_finished(self) -> bool:
        """Whether no group is left to train."""
        return not self._ready and not any(self._by_start.values())

    def next(self) -> TrainingGroup | None:
        """Remove and return the next group; None as long as those that are left wait for their starts."""
        return self._ready.popleft() if self._ready else None

    def on_end(self, identity: str, *, is_trained: bool) -> None:
        """Note that a training has ended: the members of a trained start are next in line."""
        groups = self._by_start.pop(identity, [])
        if is_trained:
            self._ready.extend(groups)
        else:
            self.without_start += groups
