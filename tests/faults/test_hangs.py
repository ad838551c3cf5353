"""Processes that hang: told, not waited for where another can do their work, and gone at the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.storage.run_folder import RunFolder
from tests.faults.harness import (
    LIMIT,
    SEED,
    SWEEP,
    assert_whole,
    descendants,
    recorded,
    started,
    wait_for,
    weights,
    worker,
)

pytestmark = pytest.mark.faults


def stopped(pid: int) -> None:
    """Stop a process for good, and wait until it stands still."""
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "stopped process")


def is_there(pid: int) -> bool:
    """Whether a process is still there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_blocks_of_an_evaluator_that_hangs_run_elsewhere_and_count_once(
    trained: Callable[[], Path], reference: Path
) -> None:
    base = trained()
    chance = random.Random(SEED)
    with started(base, "execution.mlflow=false", "execution.straggler_seconds=2") as driver:
        count = chance.randrange(2, 10)
        wait_for(lambda: recorded(base, "candidates") >= count, "blocks", driver)
        hung = worker(driver, "Worker", chance)
        stopped(hung)
        assert driver.wait(LIMIT) == 0, (base / "log").read_text()[-3000:]
        wait_for(lambda: not is_there(hung), "end of the stopped process")
    assert f"process {hung} on " in (base / "log").read_text()
    assert_whole(base, reference)
    blocks = [row for row in RunFolder(base / "runs/hurt").read("tasks").to_pylist() if row["kind"] == "block"]
    again = [row for row in blocks if row["attempts"] > 1]
    assert 1 <= len(again) <= 2, "what was stopped, and what waited behind it"
    assert hung not in {row["process"] for row in again}


def busiest(driver: subprocess.Popen[bytes]) -> int:
    """The process that has trained most."""
    pids = [pid for pid, title in descendants(driver.pid) if title.startswith("ray::ImplicitFunc")]
    return max(pids, key=lambda pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]))


def test_a_training_that_hangs_is_reported_and_goes_on_elsewhere_once_it_is_killed(
    place: Callable[[], Path], reference: Path
) -> None:
    base = place()
    (base / "hurt.yaml").write_text(SWEEP.replace("members: 3", "members: 12").replace("pairs: all", "per_size: 2"))
    with started(base, "execution.mlflow=false", "execution.straggler_seconds=2") as driver:
        wait_for(lambda: recorded(base, "members") >= 4, "some members", driver)
        hung = busiest(driver)
        stopped(hung)
        wait_for(lambda: "may hang" in (base / "log").read_text(), "word of it", driver)
        os.kill(hung, signal.SIGKILL)
        wait_for(lambda: recorded(base, "members") >= 13, "members", driver)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    found = weights(base)
    expected = weights(reference)
    assert {member: found[member] for member in expected} == expected
    assert len(found) == 13


def test_a_run_that_is_to_stop_does_not_wait_for_what_hangs(trained: Callable[[], Path]) -> None:
    base = trained()
    chance = random.Random(SEED)
    with started(base, "execution.mlflow=false", "execution.straggler_seconds=2", "execution.workers=1") as driver:
        wait_for(lambda: recorded(base, "candidates") >= 2, "blocks", driver)
        stopped(worker(driver, "Worker", chance))
        driver.send_signal(signal.SIGINT)
        assert driver.wait(LIMIT) == 130
