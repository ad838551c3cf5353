"""A node that is cut off: it lives and works on, but nobody hears of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.harness import LIMIT, planned, rows, started, wait_for
from tests.faults.links import cluster, computers, network
from tests.faults.slowness import go, slowed, tasks

pytestmark = pytest.mark.faults


def test_the_blocks_of_a_node_that_is_cut_off_run_elsewhere_and_count_once(
    trained: Callable[[], Path], reference: Path
) -> None:
    base = trained()
    undisturbed = trained()
    more = slowed(base) | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with computers() as (near, far), cluster(base, near, **more) as (address, add):
        add(far)
        with started(base, f"execution.ray_address={address}", before=near.inside, **more) as driver:
            wait_for(lambda: len({task["process"] for task in tasks(base)}) == 2, "work on both nodes", driver)
            place = {network(task["process"]): task["process"] for task in tasks(base)}
            at_near = place[network(near.holder)]
            at_far = place[network(far.holder)]
            cut = datetime.now(UTC).replace(tzinfo=None)
            far.cut()
            with started(undisturbed, **slowed(undisturbed)) as other:  # meanwhile
                go(undisturbed)
                assert other.wait(LIMIT) == 0, (undisturbed / "log").read_text()[-3000:]
            again = wait_for(lambda: [t for t in tasks(base) if t["attempts"] > 1], "blocks that ran again", driver)
            assert network(at_far) == network(far.holder), "it was to be out of reach, not dead"
            go(base)
            driver.wait(LIMIT)
            assert driver.returncode == 0, (base / "log").read_text()[-3000:]
    assert {task["process"] for task in again} == {at_near}
    assert min(task["created_at"] for task in again) - cut < timedelta(seconds=30)
    found = rows(base)
    expected = rows(reference)
    assert {identity for identity, _ in found} == planned(base)
    assert found == rows(undisturbed)
    assert {key: found[key] for key in expected} == expected
    assert {row["status"] for row in found.values()} == {"ok"}
