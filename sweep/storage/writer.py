"""Finished blocks into the tables, beside whoever hands them over: the slower the disc, the more of them in a part."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sweep.core.ids import content_id
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from sweep.storage.rows import BlockRows

_HELD = 64 << 20  # bytes that wait to be written, about, before whoever brings more waits, too
_ROW = 4096  # bytes in memory of a row without the long values that it holds, about
_PAUSE = 0.1  # seconds between two looks at what has come: a part costs more than the rows in it


@dataclass(frozen=True)
class FinishedBlock:
    """A finished block; `part` is the name of the part that it makes by itself."""

    part: str
    pool_id: str
    rows: BlockRows
    attempts: int

    @cached_property
    def failed(self) -> int:
        """How many of its candidates have a row that says failed."""
        return len({row["candidate_id"] for row in self.rows.candidates if row["status"] == "failed"})

    @cached_property
    def done(self) -> int:
        """How many candidates it has rows of."""
        return len({row["candidate_id"] for row in self.rows.candidates})

    @property
    def count(self) -> int:
        """How many rows it has, without predictions."""
        return sum(len(made) for table, made in self.rows.tables.items() if table != "predictions")

    @cached_property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        rows = [row for made in self.rows.tables.values() for row in made]
        return sum(len(value) for row in rows for value in row.values() if isinstance(value, bytes)) + _ROW * len(rows)

    @property
    def task(self) -> dict[str, Any]:
        """Its row of `tasks`."""
        about = {"task_id": self.part, "kind": "block", "pool_id": self.pool_id, "rows": self.count}
        return about | {"attempts": self.attempts} | self.rows.cost


class Writer:
    """A thread that writes whatever blocks have come since the last time, which is a tenth of a second ago at least.

    So a block is written at once where they come slowly, and together with others where they do not.
    """

    def __init__(self, folder: RunFolder, told: Collection[str]) -> None:
        """`told` are the tasks that have a row already."""
        self._folder, self._recorded_tasks = folder, frozenset(told)
        self._waiting: list[FinishedBlock] = []
        self._news = [0, 0]
        self._error: BaseException | None = None
        self._is_lost = self._is_closed = self._is_full = False
        self._last = -_PAUSE
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def put(self, block: str, pool_id: str, rows: BlockRows, attempts: int) -> None:
        """Hand over a finished block. Raises what went wrong with an earlier one."""
        finished = FinishedBlock(rows.part(block), pool_id, rows, attempts)
        with self._changed:
            self._is_full = not self._has_room(finished.size)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_lost or self._has_room(finished.size))
            self._raise()
            self._waiting.append(finished)
            self._changed.notify_all()

    def take_counts(self) -> tuple[int, int]:
        """How many candidates were written since the last call, and how many of them failed. Raises as `put` does."""
        with self._changed:
            self._raise()
            (done, failed), self._news = self._news, [0, 0]
        return done, failed

    def close(self) -> None:
        """Write what waits, and end; once interrupted, end what is being written alone. Raises as `put` does."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        try:
            self._thread.join()
        except BaseException:
            self._is_lost = True
            self._thread.join()  # nobody writes once the caller gives back the lock of the run folder
            raise
        self._raise()

    def _has_room(self, size: int) -> bool:
        return not self._waiting or sum(block.size for block in self._waiting) + size <= _HELD

    def _raise(self) -> None:
        """What went wrong, once."""
        error, self._error = self._error, None
        if error:
            raise error

    def _run(self) -> None:
        """Until closed, write what there is; nothing more once something went wrong."""
        try:
            while blocks := self._next():
                for group in _groups(blocks):
                    if self._is_lost:
                        return
                    self._write(group)
        except BaseException as error:
            with self._changed:
                self._error, self._is_lost = error, True
                self._changed.notify_all()

    def _next(self) -> list[FinishedBlock]:
        """What waits, once something does and the last look is a while ago; nothing once there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._is_closed)
            left = self._last + _PAUSE - time.monotonic()
            self._changed.wait_for(lambda: self._is_closed or self._is_full, max(0.0, left))
            blocks, self._waiting, self._last, self._is_full = self._waiting, [], time.monotonic(), False
            self._changed.notify_all()
        return blocks

    def _write(self, group: Sequence[FinishedBlock]) -> None:
        """Write blocks as one part of each table, the candidates last, for they say that the blocks are done."""
        names = sorted(block.part for block in group)
        part = names[0] if len(group) == 1 else content_id("part", names)
        tables = {table: [row for block in group for row in block.rows.tables[table]] for table in group[0].rows.tables}
        tasks = [block.task for block in group if block.part not in self._recorded_tasks]
        for table, rows in (tables | {"tasks": tasks}).items():
            if rows and table != "candidates":
                self._folder.append(table, part, rows)
        if tables["candidates"] and not self._folder.append("candidates", part, tables["candidates"]):
            raise StoreError(
                f"{self._folder.part_file('candidates', part)} is there already", "sweep doctor RUN tells more"
            )
        with self._changed:
            self._news[0] += sum(block.done for block in group)
            self._news[1] += sum(block.failed for block in group)


def _groups(blocks: Sequence[FinishedBlock]) -> Iterator[Sequence[FinishedBlock]]:
    """Blocks that become a part together.

    One with failures stays alone, for its part is made anew as a whole; those with candidates and those without are
    apart, for by the parts of candidates it is known that predictions are whole.
    """
    sound = [block for block in blocks if not block.failed]
    yield from ([block] for block in blocks if block.failed)
    yield from filter(None, ([b for b in sound if b.rows.candidates], [b for b in sound if not b.rows.candidates]))


@contextmanager
def open_writer(folder: RunFolder, told: Collection[str]) -> Iterator[Writer]:
    """A writer, closed in the end. The caller holds the lock of the run folder."""
    writer = Writer(folder, told)
    try:
        yield writer
    finally:
        writer.close()
