"""A wall clock that is set forward a day and back to an hour ago while a sweep runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sweep.storage.run_folder import RunFolder
from tests.faults.harness import LIMIT, assert_whole, completed, recorded, started, wait_for
from tests.helpers.c_library import compiled

pytestmark = pytest.mark.faults

HOUR = 3600
DAY = 86400


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that stands before the system's clock."""
    return compiled(Path(__file__).parent / "leaps.c", tmp_path_factory.mktemp("clock"))


def test_a_clock_that_leaps_changes_no_row_and_lets_no_second_driver_in(
    place: Callable[[], Path], reference: Path, shim: Path
) -> None:
    base = place()
    began = time.monotonic()
    leaps = base / "leaps"

    def leap(seconds: int) -> None:
        with leaps.open("r+b") as file:
            file.write(struct.pack("q", seconds))

    leaps.write_bytes(struct.pack("q", 0))
    more = {"LEAPS": str(leaps), "LD_PRELOAD": str(shim)}
    with started(base, "execution.mlflow=false", "execution.workers=1", **more) as driver:
        wait_for(lambda: recorded(base, "members") >= 1, "start", driver)
        leap(DAY)
        wait_for(lambda: recorded(base, "candidates") >= 2, "blocks", driver)
        leap(-HOUR)
        os.kill(driver.pid, signal.SIGSTOP)  # so that it is not done before the second one comes
        second = base / "second"
        second.mkdir()
        shutil.copy(base / "hurt.yaml", second)
        refused = completed(second, f"execution.storage={base}/runs", code=2, **more)
        os.kill(driver.pid, signal.SIGCONT)
        assert driver.wait(LIMIT) == 0, (base / "log").read_text()[-3000:]
    took = time.monotonic() - began
    assert f"process {driver.pid} on " in refused
    assert_whole(base, reference)
    assert_sensible(base, took)


def assert_sensible(base: Path, took: float) -> None:
    """The clock leapt, that was said, and what is told of times comes from another one."""
    folder = RunFolder(base / "runs/hurt")
    output = (base / "log").read_text()
    made = [row["created_at"] for row in folder.read("candidates", ["created_at"]).to_pylist()]
    assert max(made) - datetime.now(UTC).replace(tzinfo=None) > timedelta(hours=12)
    assert "system clock jumped back by 25 h" in output
    assert "taking over" not in output
    stages = re.findall(r"^(?:models trained|candidates done): (.*)$", output, re.MULTILINE)
    assert len(stages) >= 2
    assert not [stage for stage in stages if re.search(r"-\d| h ", stage)]
    for table, column in (("tasks", "seconds"), ("members", "train_seconds"), ("curves", "seconds")):
        seconds = folder.read(table, [column])[column].to_pylist()
        assert all(0 <= each <= took for each in seconds), column
