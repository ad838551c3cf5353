"""Laws of the work queue: whatever fails, every item gets one row, and only items to blame are recorded as failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.execution.work_queue import OpenBlock, WorkQueue, WorkUnit
from sweep.plan.work import BlockWork, MemberPair, MemberPairWork
from sweep.storage.rows import BlockRows

Outcome = Callable[[WorkQueue, WorkUnit], None]

BLOCK_SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=5)
RETRIES = st.integers(0, 3)


def make_blocks(sizes: list[int]) -> dict[str, BlockWork]:
    """Blocks of pairs; item `b` of block `a` is the pair (a, b), and every second block is of another pool."""
    return {
        f"block {block}": MemberPairWork([MemberPair(f"pool {block % 2}", block, item) for item in range(size)])
        for block, size in enumerate(sizes)
    }


def rows_of(work: BlockWork, status: str) -> BlockRows:
    """A row for each pair."""
    return BlockRows(pairs=[{"item": (pair.a, pair.b), "status": status} for pair in work.items])  # type: ignore[union-attr]


class Record:
    """The finished blocks, and a queue that fills it."""

    def __init__(self, blocks: dict[str, BlockWork], retries: int) -> None:
        self.finished: list[OpenBlock] = []
        self.queue = WorkQueue(blocks, retries, lambda work, cause: rows_of(work, cause), self.finished.append)
        self.n_calls = 0

    def run(self, outcome: Outcome) -> None:
        """Run one unit after another until all blocks are finished."""
        while self.queue.blocks:
            self.n_calls += 1
            outcome(self.queue, self.queue.take())

    @property
    def status(self) -> dict[tuple[int, int], str]:
        """Item -> status; an item that has two rows fails here."""
        rows = [row for block in self.finished for row in block.rows.pairs]
        assert max(Counter(row["item"] for row in rows).values()) == 1
        return {row["item"]: row["status"] for row in rows}


def items_of(blocks: dict[str, BlockWork]) -> list[tuple[int, int]]:
    return [(pair.a, pair.b) for work in blocks.values() for pair in work.items]  # type: ignore[union-attr]


def blames(culprits: Collection[tuple[int, int]], cause: str) -> Outcome:
    """A worker that dies whenever one of these items is in its unit."""

    def outcome(queue: WorkQueue, unit: WorkUnit) -> None:
        if any((pair.a, pair.b) in culprits for pair in unit.work.items):  # type: ignore[union-attr]
            queue.on_error(unit, cause)
        else:
            queue.on_result(unit, rows_of(unit.work, "ok"))

    return outcome


@given(sizes=BLOCK_SIZES, retries=RETRIES, data=st.data())
def test_exactly_the_items_that_kill_their_worker_are_recorded_as_failed(
    sizes: list[int], retries: int, data: st.DataObject
) -> None:
    blocks = make_blocks(sizes)
    culprits = data.draw(st.sets(st.sampled_from(items_of(blocks))))
    record = Record(blocks, retries)
    record.run(blames(culprits, "killed"))
    assert record.status == {item: "killed" if item in culprits else "ok" for item in items_of(blocks)}
    assert sorted(block.name for block in record.finished) == sorted(blocks)
    assert not any(record.queue.has_open_block(work.pool_id) for work in blocks.values())


@given(size=st.integers(1, 300), retries=RETRIES, data=st.data())
def test_one_culprit_is_found_by_bisection(size: int, retries: int, data: st.DataObject) -> None:
    record = Record(make_blocks([size]), retries)
    record.run(blames({(0, data.draw(st.integers(0, size - 1)))}, "killed"))
    assert record.n_calls <= 1 + retries + 2 * ceil(log2(size)), "parts are not run again before they are split"
    assert Counter(record.status.values()) == ({"ok": size - 1, "killed": 1} if size > 1 else {"killed": 1})


@given(sizes=BLOCK_SIZES, retries=RETRIES, data=st.data())
def test_a_unit_may_fail_as_often_as_there_are_retries(sizes: list[int], retries: int, data: st.DataObject) -> None:
    failures = {name: data.draw(st.integers(0, retries), label=name) for name in make_blocks(sizes)}
    left = dict(failures)

    def outcome(queue: WorkQueue, unit: WorkUnit) -> None:
        if left[unit.block]:
            left[unit.block] -= 1
            queue.on_error(unit, "lost")
            assert queue.peek() is unit, "it runs next"
            assert unit.is_suspect
        else:
            queue.on_result(unit, rows_of(unit.work, "ok"))

    record = Record(make_blocks(sizes), retries)
    record.run(outcome)
    assert set(record.status.values()) == {"ok"}
    assert {block.name: block.attempts - 1 for block in record.finished} == failures


@given(memory=st.lists(st.integers(1, 12), min_size=1, max_size=20), limit=st.integers(1, 12), retries=RETRIES)
def test_every_item_that_fits_into_memory_alone_is_evaluated(memory: list[int], limit: int, retries: int) -> None:
    def outcome(queue: WorkQueue, unit: WorkUnit) -> None:
        if sum(memory[pair.b] for pair in unit.work.items) > limit:  # type: ignore[union-attr]
            queue.on_out_of_memory(unit, "too large")
        else:
            queue.on_result(unit, rows_of(unit.work, "ok"))

    record = Record(make_blocks([len(memory)]), retries)
    record.run(outcome)
    assert record.status == {(0, b): "ok" if need <= limit else "too large" for b, need in enumerate(memory)}
    # The block, its halves, then its items; an item alone is split once more if it was a block of its own.
    assert record.n_calls <= 3 + 2 * len(memory)


@given(sizes=BLOCK_SIZES, retries=RETRIES, data=st.data())
def test_every_item_gets_one_row_whatever_happens_in_whatever_order(
    sizes: list[int], retries: int, data: st.DataObject
) -> None:
    """Several workers, calls that end in any order and way, units that run twice."""
    blocks = make_blocks(sizes)
    record = Record(blocks, retries)
    queue = record.queue
    running: list[WorkUnit] = []
    culprits = data.draw(st.sets(st.sampled_from(items_of(blocks))))
    faults = data.draw(st.integers(0, 12))  # beyond those of the culprits
    while queue.blocks:
        can_end = ["end"] if running else []
        can_start = ["start"] if len(queue) and len(running) < 4 else []
        action = data.draw(st.sampled_from([*can_end, *can_start, *(["again"] if running else [])]))
        if action == "start":
            running.append(queue.take())
            continue
        unit = running[data.draw(st.integers(0, len(running) - 1))]
        if action == "again":
            queue.speculate(unit)
            if not len(queue) or len(running) >= 4:  # no room to run it: let something end
                action = "end"
        if action == "end":
            running.remove(unit)
            fault = data.draw(st.sampled_from(["none", "error", "memory"])) if faults else "none"
            faults -= fault != "none"
            if fault == "memory":
                queue.on_out_of_memory(unit, "blamed")
            elif fault == "error":
                queue.on_error(unit, "blamed")
            else:
                blames(culprits, "blamed")(queue, unit)
    assert set(record.status) == set(items_of(blocks))
    assert {item for item, status in record.status.items() if status == "blamed"} >= culprits
    assert len(queue) == 0
    assert all(unit.is_finished for unit in running), "what still runs has its rows already"


def test_of_a_unit_that_runs_twice_the_first_result_counts() -> None:
    record = Record(make_blocks([2]), retries=0)
    unit = record.queue.take()
    record.queue.speculate(unit)
    record.queue.speculate(unit)
    assert len(record.queue) == 1, "a third worker is not asked"
    assert record.queue.take() is unit
    record.queue.on_error(unit, "the second worker died")
    assert record.finished == [], "the first one may still end"
    record.queue.on_result(unit, rows_of(unit.work, "ok"))
    assert set(record.status.values()) == {"ok"}


def test_a_late_unit_that_ends_is_not_run_again() -> None:
    record = Record(make_blocks([2, 1]), retries=1)
    late = record.queue.take()
    other = record.queue.take()
    record.queue.speculate(late)
    record.queue.on_result(late, rows_of(late.work, "ok"))
    assert len(record.queue) == 0
    record.queue.on_result(other, rows_of(other.work, "ok"))
    assert [block.attempts for block in record.finished] == [2, 1]


@pytest.mark.parametrize("size", [1, 2, 7])
def test_parts_keep_the_order_of_their_items(size: int) -> None:
    work = make_blocks([7])["block 0"]
    parts = WorkUnit("block 0", work).split(size)
    assert [pair for part in parts for pair in part.work.items] == list(work.items)
    assert all(part.is_suspect and len(part.work) <= size for part in parts)
