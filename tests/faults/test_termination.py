"""SIGTERM and the loss of a node during training: how many steps are repeated, and which messages are logged."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import (
    LIMIT,
    assert_mirrored,
    assert_whole,
    completed,
    descendants,
    mirrored,
    recorded,
    started,
    wait_for,
    weights,
)
from tests.faults.test_nodes import cluster

pytestmark = pytest.mark.faults

SLOW = """
name: hurt
dataset: {digits: {size: 8}}
populations:
  - {architecture: 'sleepy:sleepy', start: scratch, members: 2, train: {epochs: 2, batch_size: 32, lr: 0.1}}
subsets: {sizes: [1, 2], pairs: all}
methods: [uniform_soup, logit_average]
scalings: [none, {magnify: {factor: [2, 3, 4], members: [all, first]}}]
metrics: [accuracy, cross_entropy, brier, ece, 'counted:counted']
execution: {block_size: 2, workers: 2, mlflow_models: 0, checkpoint_seconds: 1}
"""
NETWORK = '''"""A network that takes its time for each step, and counts them."""

import os
import time
from pathlib import Path

from torch import Tensor, nn


class Sleepy(nn.Module):
    """A linear layer behind dropout."""

    def __init__(self, classes: int, inputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        if self.training and len(images) > 2:
            with Path(os.environ["HURT_STEPS"]).open("ab") as file:
                file.write(b".")
            time.sleep(0 if Path(os.environ["HURT_GO"]).exists() else 0.1)
        return self.head(self.dropout(images.flatten(1)))


def sleepy(classes: int, channels: int, size: int) -> Sleepy:
    """Slow in training."""
    return Sleepy(classes, channels * size * size)
'''
METRIC = '''"""A slow metric that counts its calls."""

import os
import time
from pathlib import Path

from torch import Tensor


def counted(labels: Tensor) -> float:
    """0, a little later."""
    with Path(os.environ["HURT_CALLS"]).open("ab") as file:
        file.write(b".")
    time.sleep(0 if Path(os.environ["HURT_GO"]).exists() else 0.1)
    return 0.0
'''
STEP = 0.1  # seconds
WORKERS = 2
BLOCK = 2


def slow(base: Path) -> dict[str, str]:
    """Write the sweep and its plug-ins; the variables that it runs with."""
    (base / "hurt.yaml").write_text(SLOW)
    (base / "sleepy.py").write_text(NETWORK)
    (base / "counted.py").write_text(METRIC)
    files = {"HURT_STEPS": "steps", "HURT_CALLS": "calls", "HURT_GO": "go"}
    return {"PYTHONPATH": str(base), **{name: str(base / file) for name, file in files.items()}}


def size(file: Path) -> int:
    """How much was counted."""
    return file.stat().st_size if file.exists() else 0


@pytest.fixture(scope="module")
def whole(place: Callable[[], Path]) -> Path:
    """An undisturbed run, which is quick."""
    base = place()
    more = slow(base)
    (base / "go").touch()
    completed(base, **more)
    return base


def terminate(driver: subprocess.Popen[bytes], code: int) -> float:
    """Send SIGTERM; how long the run takes to end with its code."""
    driver.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    assert driver.wait(LIMIT) == code
    return time.monotonic() - sent


def assert_stopped(base: Path) -> None:
    """The reason is where people look, the folder is free, and no native stack was printed."""
    folder = base / "runs/hurt"
    assert "stopped by SIGTERM" in (folder / "log.txt").read_text()
    assert (folder / "lock").read_text().startswith("free")
    last = json.loads((folder / "run.json").read_text())["invocations"][-1]
    assert (last["finished_at"], last["reason"]) == (None, "SIGTERM")
    assert last["stopped_at"]
    (run,) = [each for each in mirrored(base).values() if each["kind"] == "sweep"]
    assert run["status"] == "KILLED"
    assert "***" not in (base / "log").read_text()
    assert "Traceback" not in (base / "log").read_text()


def test_after_sigterm_the_same_command_goes_on_where_it_was(place: Callable[[], Path], whole: Path) -> None:
    base = place()
    more = slow(base)
    with started(base, **more) as driver:
        wait_for(lambda: size(base / "steps") > 30, "steps", driver)
        assert terminate(driver, 143) < 30
    assert_stopped(base)
    assert recorded(base, "members") == 0
    assert len(list((base / "runs/hurt/members").glob("*.partial"))) == 2
    with started(base, "--requeue", **more) as driver:
        wait_for(lambda: size(base / "steps") > size(whole / "steps") - 30, "steps", driver)
        (base / "go").touch()
        wait_for(lambda: recorded(base, "members") == 2, "members", driver)
        (base / "go").unlink()
        wait_for(lambda: recorded(base, "candidates") >= 2, "blocks", driver)
        assert terminate(driver, 75) < 30
    assert_stopped(base)
    assert recorded(base, "candidates") < recorded(whole, "candidates")
    (base / "go").touch()
    completed(base, **more)
    assert size(base / "steps") == size(whole / "steps"), "the last step of each training was saved"
    assert size(base / "calls") - size(whole / "calls") <= WORKERS * BLOCK
    assert_whole(base, whole)
    assert_mirrored(base, whole)


def test_sigterm_to_ray_as_well_costs_the_time_since_the_last_checkpoint(
    place: Callable[[], Path], whole: Path
) -> None:
    base = place()
    more = slow(base)
    with started(base, "execution.mlflow=false", **more) as driver:
        wait_for(lambda: size(base / "steps") > 50, "steps", driver)
        family = [pid for pid, _ in descendants(driver.pid)]
        for pid in (driver.pid, *family):
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: "stopped by SIGTERM" in (base / "runs/hurt/log.txt").read_text(), "reason")
        driver.kill()  # as who sends it to all does after a while
        driver.wait(LIMIT)
    (base / "go").touch()
    completed(base, "execution.mlflow=false", **more)
    assert size(base / "steps") - size(whole / "steps") <= 2 * (1 / STEP + 5)
    assert weights(base) == weights(whole)


def test_a_node_that_dies_costs_its_training_the_time_since_the_last_checkpoint(
    place: Callable[[], Path], whole: Path
) -> None:
    base = place()
    more = slow(base) | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with cluster(base, **more) as (address, send):
        send("add")
        send("add")
        with started(base, f"execution.ray_address={address}", "execution.mlflow=false", **more) as driver:
            wait_for(lambda: size(base / "steps") > 60, "steps", driver)
            send("kill 0")
            time.sleep(3)  # a training outlives its node for a moment: quick steps of it would be done twice
            (base / "go").touch()
            wait_for(lambda: recorded(base, "members") == 2, "members", driver)
    assert 0 <= size(base / "steps") - size(whole / "steps") <= 1 / STEP + 5
    assert weights(base) == weights(whole)
