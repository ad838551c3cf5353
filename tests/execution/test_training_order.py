"""Starts before members, every group once, and no member of a start that failed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sweep.execution.training_order import TrainingOrder
from sweep.plan.pools import TrainingGroup, training_groups
from tests.helpers.engine import plan_of

POOLS = plan_of({"architecture": "linear", "pools": 3, "members": 4, "train": {"vmap_members": 2}}).pools
GROUPS = training_groups(POOLS, [each for pool in POOLS for each in (pool.start, *pool.members) if each])


@given(chosen=st.sets(st.sampled_from([group.id for group in GROUPS])), data=st.data())
def test_every_group_is_trained_once_after_its_start_or_left_out(chosen: set[str], data: st.DataObject) -> None:
    groups = [group for group in GROUPS if group.id in chosen]
    starts = {group.id for group in groups if group.members[0].role == "start"}
    order = TrainingOrder(groups)
    running: list[TrainingGroup] = []
    is_trained: dict[str, bool] = {}
    while running or not order.is_finished:
        group = order.next() if data.draw(st.booleans()) or not running else None
        if group:
            assert is_trained.get(str(group.members[0].start_id), group.members[0].start_id not in starts)
            running.append(group)
        else:
            assert running, "what waits has something to wait for"
            ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            is_trained[ended.id] = data.draw(st.booleans())
            order.on_end(ended.id, is_trained=is_trained[ended.id])
    assert sorted([*is_trained, *(group.id for group in order.without_start)]) == sorted(chosen)
    failed = {start for start in starts if not is_trained[start]}
    assert {group.id for group in order.without_start} == {g.id for g in groups if g.members[0].start_id in failed}


def test_starts_of_all_pools_come_first() -> None:
    order = TrainingOrder(GROUPS)
    assert [group.id for group in (order.next(), order.next(), order.next()) if group] == [
        pool.start.id for pool in POOLS if pool.start
    ]
    assert order.next() is None
    assert not order.is_finished
