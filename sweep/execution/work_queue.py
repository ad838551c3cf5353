"""What is run next, and what becomes of work that fails: run again, split, or recorded as failed. Without Ray."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sweep.plan.work import BlockWork
from sweep.storage.rows import BlockRows

MAX_OOM_SPLITS = 2
"""How often work that ran out of memory is split before its candidates are recorded as failed."""


@dataclass(eq=False)
class WorkUnit:
    """A block or a part of one: what a worker is given at a time.

    `failures` counts how often it failed, `oom_splits` how often it was split because memory ran out, `n_running` how
    many workers run it. A speculative unit is run a second time because its worker may hang.
    """

    block: str
    work: BlockWork
    failures: int = 0
    oom_splits: int = 0
    n_running: int = 0
    is_queued: bool = True
    is_speculative: bool = False
    is_finished: bool = False

    @property
    def is_suspect(self) -> bool:
        """Whether it failed before: then it runs alone on its worker, so that it takes no other unit with it."""
        return self.failures > 0

    def split(self, size: int) -> list[WorkUnit]:
        """Suspect units of at most `size` items."""
        works = [self.work[start : start + size] for start in range(0, len(self.work), size)]
        failures = max(self.failures, 1)
        return [WorkUnit(self.block, work, failures, self.oom_splits) for work in works]

    def split_for_memory(self) -> list[WorkUnit]:
        """Halves the first time, single items the second time."""
        size = 1 if self.oom_splits else _half(self)
        return replace(self, oom_splits=self.oom_splits + 1).split(size)


@dataclass
class OpenBlock:
    """A block that has unfinished units: its rows so far, and how often it was tried anew."""

    name: str
    pool_id: str
    n_units: int = 1
    attempts: int = 1
    rows: BlockRows = field(default_factory=BlockRows)


class WorkQueue:
    """The units that are to be run and the blocks that are not finished.

    A unit that fails runs again `retries` times, then its halves do, down to the item that is to blame; rows of such an
    item are those of `failed_rows(work, cause)`. A block whose last unit is finished is passed to `on_finished`.
    """

    def __init__(
        self,
        blocks: Mapping[str, BlockWork],
        retries: int,
        failed_rows: Callable[[BlockWork, str], BlockRows],
        on_finished: Callable[[OpenBlock], None],
    ) -> None:
        self.retries = retries
        self.failed_rows = failed_rows
        self.on_finished = on_finished
        self.units = deque(WorkUnit(name, work) for name, work in blocks.items())
        self.blocks = {name: OpenBlock(name, work.pool_id) for name, work in blocks.items()}
        self._open_by_pool = Counter(work.pool_id for work in blocks.values())

    def __len__(self) -> int:
        return len(self.units)

    def has_open_block(self, pool_id: str) -> bool:
        """Whether a block of this pool is not finished."""
        return self._open_by_pool[pool_id] > 0

    def peek(self) -> WorkUnit:
        """The unit that `take` would return."""
        return self.units[0]

    def take(self) -> WorkUnit:
        """Remove the first unit: a worker runs it now."""
        unit = self.units.popleft()
        unit.is_queued = False
        unit.n_running += 1
        return unit

    def speculate(self, unit: WorkUnit) -> None:
        """Queue a running unit a second time, once: the first result counts."""
        if unit.is_finished or unit.is_speculative:
            return
        unit.is_speculative = True
        unit.is_queued = True
        self.blocks[unit.block].attempts += 1
        self.units.append(unit)

    def on_result(self, unit: WorkUnit, rows: BlockRows) -> None:
        """Add the rows of a unit that a worker has run, unless another worker was faster."""
        unit.n_running -= 1
        self._finish(unit, rows)

    def on_error(self, unit: WorkUnit, cause: str) -> None:
        """Run a unit again; after `retries`, split it; a single item is recorded as failed."""
        if not self._has_to_act(unit):
            return
        if unit.failures < self.retries:
            unit.failures += 1
            unit.is_queued = True
            self.blocks[unit.block].attempts += 1
            self.units.appendleft(unit)
        elif len(unit.work) == 1:
            self._finish(unit, self.failed_rows(unit.work, cause))
        else:
            self._replace_by_parts(unit, unit.split(_half(unit)))

    def on_out_of_memory(self, unit: WorkUnit, cause: str) -> None:
        """Split a unit; after MAX_OOM_SPLITS, its items are recorded as failed."""
        if not self._has_to_act(unit):
            return
        if unit.oom_splits == MAX_OOM_SPLITS:
            self._finish(unit, self.failed_rows(unit.work, cause))
        else:
            self._replace_by_parts(unit, unit.split_for_memory())

    def _has_to_act(self, unit: WorkUnit) -> bool:
        """Count one worker less; whether the failed unit is neither finished nor run by another worker."""
        unit.n_running -= 1
        if not (unit.n_running or unit.is_queued):
            return not unit.is_finished
        unit.failures += 1
        unit.is_speculative = unit.failures > self.retries  # else yet another worker may run it
        return False

    def _replace_by_parts(self, unit: WorkUnit, parts: list[WorkUnit]) -> None:
        block = self.blocks[unit.block]
        block.attempts += 1
        block.n_units += len(parts) - 1
        self.units.extendleft(reversed(parts))

    def _finish(self, unit: WorkUnit, rows: BlockRows) -> None:
        """Add the rows of a unit to its block, once, and hand over the block when it is whole."""
        if unit.is_finished:
            return
        unit.is_finished = True
        if unit.is_queued:
            unit.is_queued = False
            self.units.remove(unit)
        block = self.blocks[unit.block]
        block.rows.extend(rows)
        block.n_units -= 1
        if block.n_units == 0:
            del self.blocks[unit.block]
            self._open_by_pool[block.pool_id] -= 1
            self.on_finished(block)


def _half(unit: WorkUnit) -> int:
    return max(1, (len(unit.work) + 1) // 2)
