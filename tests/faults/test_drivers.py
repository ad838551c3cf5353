"""Drivers that are asked to stop, that come second, and that take over from a dead one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import LIMIT, completed, environment, recorded, rows, started, wait_for

pytestmark = pytest.mark.faults


def test_sweep_stop_asks_a_run_to_end_and_the_same_command_goes_on(place: Callable[[], Path], reference: Path) -> None:
    base = place()
    stop = [sys.executable, "-m", "sweep", "stop", "runs/hurt"]
    with started(base, "execution.workers=1", "execution.mlflow=false") as driver:
        wait_for(lambda: recorded(base, "members") >= 1, "members", driver)
        asked = subprocess.run(stop, cwd=base, env=environment(), capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr
        assert f"process {driver.pid} on" in asked.stderr
        assert driver.wait(LIMIT) == 130
    assert "stopped by `sweep stop`: trainings are saved" in (base / "log").read_text()
    asked = subprocess.run(stop, cwd=base, env=environment(), capture_output=True, text=True)
    assert (asked.returncode, asked.stderr) == (2, f"nothing is running on {base}/runs/hurt\n")
    completed(base, "execution.mlflow=false")
    assert rows(base) == rows(reference)


def test_a_second_driver_is_refused_and_a_dead_ones_lock_is_taken_over_and_reported(place: Callable[[], Path]) -> None:
    base = place()
    lock = base / "runs/hurt/lock"
    log = base / "log"
    with started(base, "execution.mlflow=false") as driver:
        wait_for(lambda: lock.exists() and f"process {driver.pid} on " in lock.read_text(), "lock", driver)
        os.kill(driver.pid, signal.SIGSTOP)
        second = base / "second"
        second.mkdir()
        (second / "hurt.yaml").write_text((base / "hurt.yaml").read_text())
        output = completed(second, f"execution.storage={base}/runs", code=2)
        assert re.search(rf"is in use by sweep run hurt\.yaml .*process {driver.pid} on \S+ since 20", output)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    message = f"taking over from sweep run hurt.yaml execution.mlflow=false, process {driver.pid} on "
    with started(base, "execution.mlflow=false") as third:
        wait_for(lambda: message in log.read_text(), "word of the dead one", third)
