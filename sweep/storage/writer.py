"""Writes finished blocks to Parquet in a background thread; blocks of the same two seconds go into the same part."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from sweep.core.ids import content_id
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from sweep.storage.rows import BlockRows

_MAX_WAITING = 64 << 20  # bytes, about, that may wait to be written before `put` blocks
_ROW = 4096  # bytes of memory, about, of a row without its binary values
FLUSH_SECONDS = 2.0  # between two writes: a kill costs the blocks of this time, and a part costs more than its rows


class WrittenCounts(NamedTuple):
    """Candidates with rows, how many of them failed, and pairs with rows."""

    done: int = 0
    failed: int = 0
    pairs: int = 0


@dataclass(frozen=True)
class FinishedBlock:
    """A finished block; `part` is the name of its part if it is written alone."""

    part: str
    pool_id: str
    rows: BlockRows
    attempts: int

    @cached_property
    def failed(self) -> int:
        """Number of candidates with a failed row."""
        return len({row["candidate_id"] for row in self.rows.candidates if row["status"] == "failed"})

    @cached_property
    def done(self) -> int:
        """Number of candidates with rows."""
        return len({row["candidate_id"] for row in self.rows.candidates})

    @property
    def count(self) -> int:
        """Number of rows without predictions."""
        return sum(len(made) for table, made in self.rows.tables.items() if table != "predictions")

    @cached_property
    def size(self) -> int:
        """Approximate bytes of memory."""
        rows = [row for made in self.rows.tables.values() for row in made]
        return sum(len(value) for row in rows for value in row.values() if isinstance(value, bytes)) + _ROW * len(rows)

    @property
    def kind(self) -> str:
        """The kind of its work in the table `tasks`; a failed block has no rows that would show it."""
        inspected = self.rows.layers or self.rows.templates
        return "pairs" if self.rows.pairs else "inspection" if inspected else "block"

    @property
    def task(self) -> dict[str, Any]:
        """The row of the table `tasks`."""
        row = {"task_id": self.part, "kind": self.kind, "pool_id": self.pool_id, "rows": self.count}
        row["block_id"] = next((candidate.get("block_id") for candidate in self.rows.candidates), None)
        status = "failed" if self.rows.error else "ok"
        return row | {"attempts": self.attempts, "status": status, "error": self.rows.error or None} | self.rows.cost


class Writer:
    """A thread that writes the blocks that have arrived, at most every two seconds; `close` writes at once.

    A block that arrives after a pause is written at once, blocks that arrive close together share a part.
    """

    def __init__(self, folder: RunFolder, recorded: Collection[str]) -> None:
        """`recorded` are the ids of tasks that have a row already."""
        self._folder = folder
        self._recorded_tasks = frozenset(recorded)
        self._waiting: list[FinishedBlock] = []
        self._written = WrittenCounts()
        self._error: BaseException | None = None
        self._is_stopped = False
        self._is_closed = False
        self._is_full = False
        self._last = -FLUSH_SECONDS
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def put(self, block: str, pool_id: str, rows: BlockRows, attempts: int) -> None:
        """Add a finished block; waits while too much is unwritten. Raises the error of an earlier block."""
        finished = FinishedBlock(rows.part(block), pool_id, rows, attempts)
        with self._changed:
            self._is_full = not self._has_room(finished.size)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_stopped or self._has_room(finished.size))
            self._raise()
            self._waiting.append(finished)
            self._changed.notify_all()

    def take_counts(self) -> WrittenCounts:
        """What was written since the last call. Raises as `put` does."""
        with self._changed:
            self._raise()
            counts = self._written
            self._written = WrittenCounts()
        return counts

    def close(self) -> None:
        """Write what is left and end; once interrupted, only the current write is finished. Raises as `put` does."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        try:
            self._thread.join()
        except BaseException:
            self._is_stopped = True
            self._thread.join()  # no writes after the caller has released the lock of the run folder
            raise
        self._raise()

    def _has_room(self, size: int) -> bool:
        return not self._waiting or sum(block.size for block in self._waiting) + size <= _MAX_WAITING

    def _raise(self) -> None:
        """Raise the first error, once."""
        error = self._error
        self._error = None
        if error:
            raise error

    def _run(self) -> None:
        """Write blocks until closed or until an error."""
        try:
            while blocks := self._next():
                for group in _groups(blocks):
                    if self._is_stopped:
                        return
                    self._write(group)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._is_stopped = True
                self._changed.notify_all()

    def _next(self) -> list[FinishedBlock]:
        """Wait for blocks and for the time of the next write; an empty list means that no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._is_closed)
            left = self._last + FLUSH_SECONDS - time.monotonic()
            self._changed.wait_for(lambda: self._is_closed or self._is_full, max(0.0, left))
            blocks = self._waiting
            self._waiting = []
            self._last = time.monotonic()
            self._is_full = False
            self._changed.notify_all()
        return blocks

    def _write(self, group: Sequence[FinishedBlock]) -> None:
        """Write blocks as one part of each table, candidates last: they mark the blocks as done."""
        names = sorted(block.part for block in group)
        part = names[0] if len(group) == 1 else content_id("part", names)
        tables = {table: [row for block in group for row in block.rows.tables[table]] for table in group[0].rows.tables}
        tasks = [block.task for block in group if block.part not in self._recorded_tasks]
        for table, rows in (tables | {"tasks": tasks}).items():
            if rows and table != "candidates":
                self._folder.append(table, part, rows)
        if tables["candidates"] and not self._folder.append("candidates", part, tables["candidates"]):
            raise StoreError(
                f"{self._folder.part_file('candidates', part)} is there already", "sweep doctor RUN looks for the cause"
            )
        with self._changed:
            new = [(block.done, block.failed, len(block.rows.pairs)) for block in group]
            self._written = WrittenCounts(*map(sum, zip(self._written, *new, strict=True)))


def _groups(blocks: Sequence[FinishedBlock]) -> Iterator[Sequence[FinishedBlock]]:
    """Yield the blocks that share a part.

    A block with failures stays alone, because `--retry` replaces its whole part. Blocks with and without candidates
    stay apart, because a part of candidates says that the predictions of the same name are complete.
    """
    failed = [block for block in blocks if block.failed or block.rows.error]
    complete = [block for block in blocks if not (block.failed or block.rows.error)]
    yield from ([block] for block in failed)
    with_candidates = [block for block in complete if block.rows.candidates]
    without = [block for block in complete if not block.rows.candidates]
    yield from filter(None, (with_candidates, without))


@contextmanager
def open_writer(folder: RunFolder, recorded: Collection[str]) -> Iterator[Writer]:
    """A writer that is closed at the end. The caller holds the lock of the run folder."""
    writer = Writer(folder, recorded)
    try:
        yield writer
    finally:
        writer.close()
