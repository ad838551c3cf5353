"""Finished blocks become parts: each row once, together where the disc is slow, failures by themselves."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.storage import writer
from sweep.storage.columns import KEYS
from sweep.storage.compact import compact_if_large
from sweep.storage.files import StoreError
from sweep.storage.rows import BlockRows
from sweep.storage.run_folder import Row, RunFolder
from sweep.storage.tables import part_files
from sweep.storage.writer import Writer, open_writer
from tests.helpers.logs import logged


class Slow(RunFolder):
    """A run folder on a disc that takes as long as it is told, or is full."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.goes_on = threading.Event()
        self.is_at_it = threading.Event()
        self.is_full = False

    def append(self, table: str, part: str, rows: Sequence[Row]) -> bool:
        """As soon as the disc goes on."""
        self.is_at_it.set()
        assert self.goes_on.wait(30)
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().append(table, part, rows)


class Torn(RunFolder):
    """A run folder whose parts are put together between two tables of a block, and whose disc is full after that."""

    def append(self, table: str, part: str, rows: Sequence[Row]) -> bool:
        """All tables but candidates."""
        if table == "candidates":
            with logged() as lines:
                compact_if_large(self, 1)
            assert lines == []
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().append(table, part, rows)


def rows_of(block: str, count: int, *, failed: bool = False, stored: int = 8) -> BlockRows:
    """Rows of a block: candidates with predictions, or with a failure instead."""
    keys = [{"candidate_id": f"{block}-{number}", "split": "test"} for number in range(count)]
    outcome = {"status": "failed" if failed else "ok"}
    made = BlockRows(
        [key | outcome for key in keys], [] if failed else [key | {"correct": bytes(stored)} for key in keys]
    )
    made.cost = {"seconds": 1.0}
    return made


def hand(to: Writer, block: str, rows: BlockRows) -> None:
    """As the launcher does."""
    to.put(block, "p", rows, 1)


def stems(folder: RunFolder, table: str) -> set[str]:
    """Names of parts."""
    return {file.stem for file in part_files(folder.path, table)}


@settings(max_examples=25, deadline=None)
@given(blocks=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30))
def test_every_row_is_written_once_and_reported(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[int, bool]]
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    with open_writer(folder, ()) as to:
        for number, (count, failed) in enumerate(blocks):
            hand(to, f"b{number}", rows_of(f"b{number}", count, failed=failed))
    total = sum(count for count, _ in blocks)
    failures = sum(count for count, failed in blocks if failed)
    assert to.take_counts() == (total, failures, 0)
    assert to.take_counts() == (0, 0, 0)
    for table, count in {"candidates": total, "predictions": total - failures, "tasks": len(blocks)}.items():
        found = folder.read(table, KEYS[table]).to_pylist()
        assert len(found) == len({tuple(row.values()) for row in found}) == count
    assert stems(folder, "predictions") <= stems(folder, "candidates") <= stems(folder, "tasks")


def test_what_comes_while_the_disc_is_busy_becomes_one_part_and_failures_one_each(tmp_path: Path) -> None:
    folder = Slow(tmp_path)
    with open_writer(folder, ()) as to:
        hand(to, "first", rows_of("first", 3))
        assert folder.is_at_it.wait(30)
        for name in ("b", "c", "d", "e"):
            hand(to, name, rows_of(name, 2, failed=name == "d"))
        assert folder.read("candidates").num_rows == 0
        folder.goes_on.set()
    assert {row["candidate_id"][0] for row in folder.read("candidates").to_pylist()} == set("fbcde")
    assert len(part_files(tmp_path, "candidates")) == 3
    assert to.take_counts() == (11, 2, 0)
    assert folder.retire_failures() == 1, "the part of the failure, and no other"
    assert folder.read("candidates").num_rows == folder.read("predictions").num_rows == 9


def test_a_name_depends_on_the_blocks_and_not_on_their_order(tmp_path: Path) -> None:
    found = []
    for place, order in (("one", "abc"), ("two", "cab")):
        folder = Slow(tmp_path / place)
        with open_writer(folder, ()) as to:
            hand(to, "0", rows_of("0", 1))
            assert folder.is_at_it.wait(30)
            for name in order:
                hand(to, name, rows_of(name, 2))
            folder.goes_on.set()
        found.append(stems(folder, "candidates"))
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_tasks_that_are_reported_already_have_no_second_row(tmp_path: Path) -> None:
    part = rows_of("b", 2).part("b")
    with open_writer(RunFolder(tmp_path), [part]) as to:
        hand(to, "b", rows_of("b", 2))
    assert RunFolder(tmp_path).read("tasks").num_rows == 0
    with pytest.raises(StoreError, match="is there already"), open_writer(RunFolder(tmp_path), [part]) as to:
        hand(to, "b", rows_of("b", 2))


def pairs_of(block: str) -> BlockRows:
    """Rows of a block of pairs."""
    return BlockRows(pairs=[{"member_a": block, "member_b": "b"}], cost={"seconds": 1.0})


def test_what_is_written_before_its_candidates_is_not_put_together(tmp_path: Path) -> None:
    done = RunFolder(tmp_path)
    with open_writer(done, ()) as to:
        hand(to, "0", rows_of("0", 1))
    to = Writer(Torn(tmp_path), ())
    with to._changed:  # so that both come at once
        hand(to, "a", pairs_of("a"))
        hand(to, "c", rows_of("c", 2))
    with pytest.raises(OSError, match="No space"):
        to.close()
    with done.lock("again"):
        assert done.read("predictions").num_rows == done.read("candidates").num_rows == 1


def test_long_values_count_in_whatever_table_they_lie() -> None:
    for table in ("predictions", "layers", "templates"):
        rows = BlockRows(**{table: [{"held": bytes(5_000_000)}]})
        assert 5_000_000 < writer.FinishedBlock("p", "", rows, 1).size < 5_100_000, table


def test_once_interrupted_nothing_is_written_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Slow(tmp_path)
    to = Writer(folder, ())
    hand(to, "a", rows_of("a", 2, failed=True))
    assert folder.is_at_it.wait(30)
    hand(to, "b", rows_of("b", 2))
    joined = list[bool]()
    real = to._thread.join

    def join(timeout: float | None = None) -> None:
        if not joined:
            joined.append(True)
            raise KeyboardInterrupt
        folder.goes_on.set()
        real(timeout)

    monkeypatch.setattr(to._thread, "join", join)
    with pytest.raises(KeyboardInterrupt):
        to.close()
    assert not to._thread.is_alive()
    found = folder.read("candidates", ["candidate_id"])["candidate_id"].to_pylist()
    assert found == ["a-0", "a-1"], "what was being written is whole, what waited is not there"


def test_what_goes_wrong_is_raised_once_and_nothing_is_written_after_it(tmp_path: Path) -> None:
    folder = Slow(tmp_path)
    folder.is_full = True
    folder.goes_on.set()
    to = Writer(folder, ())
    hand(to, "a", rows_of("a", 1))
    to._thread.join(30)
    with pytest.raises(OSError, match="No space"):
        hand(to, "b", rows_of("b", 1))
    folder.is_full = False
    hand(to, "c", rows_of("c", 1))
    to.close()
    assert RunFolder(tmp_path).read("candidates").num_rows == 0


def test_what_goes_wrong_last_is_raised_in_the_end(tmp_path: Path) -> None:
    folder = Slow(tmp_path)
    folder.is_full = True
    folder.goes_on.set()
    with pytest.raises(OSError, match="No space"), open_writer(folder, ()) as to:
        hand(to, "a", rows_of("a", 1))


def test_a_caller_with_more_than_memory_should_hold_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_MAX_WAITING", 100_000)
    folder = Slow(tmp_path)
    provided = list[str]()

    def bring(to: Writer) -> None:
        for name in "bcdefgh":
            hand(to, name, rows_of(name, 1, stored=40_000))
            provided.append(name)

    with open_writer(folder, ()) as to:
        hand(to, "a", rows_of("a", 1))
        assert folder.is_at_it.wait(30)
        launcher = threading.Thread(target=bring, args=[to])
        launcher.start()
        launcher.join(0.5)
        waits = launcher.is_alive()
        stored = "".join(provided)
        folder.goes_on.set()
        launcher.join(30)
    assert (waits, stored) == (True, "bc")
    assert folder.read("candidates").num_rows == 8
