"""Resource demand of a run: the wait for a node with enough resources, and idle workers that can be stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sweep.core.text import format_duration
from sweep.execution.ray_checks import LaunchError
from sweep.execution.refusals import Resources

_log = logging.getLogger(__name__)

_REPORT_SECONDS = 30.0
IDLE_SECONDS = 30.0
"""How long a worker without work is kept: a block that has to run again, or in parts, finds it."""
_HINT = (
    "set execution.threads, gpus_per_member and gpus_per_worker to what there is, or execution.wait_seconds to more, "
    "for nodes that are still to come"
)


class ResourceWait:
    """Logs every 30 s that no node has the resources that a run needs; sets `error` after `limit` seconds."""

    def __init__(self, needed: Resources, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.needed = needed
        self.limit = limit
        self.clock = clock
        self.error: LaunchError | None = None
        self._since: float | None = None
        self._reported_at = 0.0

    def look(self, nodes: Callable[[], Sequence[Mapping[str, Any]]], *, is_waiting: bool) -> None:
        """Note whether nothing runs though something could; `nodes` are asked for only if a line is due."""
        now = self.clock()
        if not is_waiting:
            self._since = None
            return
        if self._since is None:
            self._since = now
            self._reported_at = now
        if now - self._reported_at < _REPORT_SECONDS and now - self._since <= self.limit:
            return
        self._reported_at = now
        cause = f"{format_duration(now - self._since)} for a node with {self.needed}: {self._why(nodes())}"
        if now - self._since > self.limit:
            self.error = LaunchError(f"nothing could run in {cause}", _HINT)
        else:
            _log.warning(f"waiting {cause}")

    def raise_if_over(self) -> None:
        """Raise LaunchError if nothing could run for too long."""
        if self.error:
            raise self.error

    def _why(self, nodes: Iterable[Mapping[str, Any]]) -> str:
        """Why no node has room."""
        alive = [node for node in nodes if node["Alive"]]
        if any(map(self.needed.are_in, alive)):
            return "those that have it are busy, or the process is starting there"
        most = [max((node["Resources"].get(name, 0.0) for node in alive), default=0.0) for name in ("CPU", "GPU")]
        return f"the cluster has none (at most {most[0]:g} CPU and {most[1]:g} GPU on one node)"


class IdleWorkers:
    """Which workers have been without work for a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._since: dict[Any, float] = {}

    def surplus(self, calls: Mapping[Any, Collection[Any]]) -> list[Any]:
        """The workers that may go, given the calls of each; one is kept, for a block whose worker may hang."""
        now = self.clock()
        self._since = {worker: self._since.get(worker, now) for worker, own in calls.items() if not own}
        return [worker for worker, since in self._since.items() if now - since > IDLE_SECONDS][1:]
