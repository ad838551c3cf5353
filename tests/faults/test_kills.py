"""Rounds: a process of the sweep is killed or stopped at a random moment, then the same command runs again.

`make test` plays each kind once that no other test has, `make soak` as many rounds as ROUNDS says; SEED and its number
decide about each.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.storage.run_folder import RunFolder
from tests.faults.harness import (
    LIMIT,
    SEED,
    EndedError,
    assert_mirrored,
    assert_whole,
    completed,
    descendants,
    mirrored,
    recorded,
    rows,
    started,
    synced,
    wait_for,
    worker,
)

pytestmark = pytest.mark.faults

Chance = random.Random
# of an undisturbed run, at least
MEMBERS = 4
BLOCKS = 20


def moment(base: Path, driver: subprocess.Popen[bytes], chance: Chance) -> None:
    """Wait for a random number of members or blocks of the run, and a random while."""
    stage = "candidates" if recorded(base, "members") >= MEMBERS else "members"
    count = chance.randrange(0, {"members": MEMBERS, "candidates": BLOCKS}[stage])
    wait_for(lambda: recorded(base, stage) >= count, f"{count} of {stage}", driver)
    time.sleep(chance.uniform(0, 0.3))


def driver_dies(base: Path, driver: subprocess.Popen[bytes], chance: Chance) -> None:
    moment(base, driver, chance)
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def trial_dies(base: Path, driver: subprocess.Popen[bytes], chance: Chance) -> None:
    moment(base, driver, chance)
    os.kill(worker(driver, "ImplicitFunc", chance), signal.SIGKILL)


def evaluator_dies(base: Path, driver: subprocess.Popen[bytes], chance: Chance) -> None:
    victim = worker(driver, "Worker", chance)
    moment(base, driver, chance)
    os.kill(victim, signal.SIGKILL)


def raylet_dies(base: Path, driver: subprocess.Popen[bytes], chance: Chance) -> None:
    """The only node: the driver ends with it, or by hand."""
    moment(base, driver, chance)
    family = wait_for(
        lambda: [p for p, title in descendants(driver.pid) if "/raylet/raylet " in title], "raylet", driver
    )
    os.kill(family[0], signal.SIGKILL)
    time.sleep(chance.uniform(0, 3))
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def worker_stops(base: Path, driver: subprocess.Popen[bytes], chance: Chance) -> None:
    """It goes on after a while, or its user loses patience and kills the driver."""
    title = "Worker" if recorded(base, "members") >= MEMBERS else "ImplicitFunc"
    victim = worker(driver, title, chance)
    time.sleep(chance.uniform(0, 1))
    os.kill(victim, signal.SIGSTOP)
    time.sleep(2)
    if chance.random() < 0.5:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    with contextlib.suppress(ProcessLookupError):  # it went with its driver
        os.kill(victim, signal.SIGCONT)


def evaluator_hangs(base: Path, driver: subprocess.Popen[bytes], chance: Chance) -> None:
    """For good: another worker has to do its blocks."""
    victim = worker(driver, "Worker", chance)
    moment(base, driver, chance)
    os.kill(victim, signal.SIGSTOP)


def interrupted(base: Path, driver: subprocess.Popen[bytes], chance: Chance) -> None:
    """Ctrl-C once or twice."""
    moment(base, driver, chance)
    driver.send_signal(signal.SIGINT)
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0, 0.5))
        if driver.poll() is None:
            driver.send_signal(signal.SIGINT)
    assert driver.wait(120) in (0, 130)


KINDS: dict[str, Callable[[Path, subprocess.Popen[bytes], Chance], None]] = {
    "driver": driver_dies,
    "evaluator": evaluator_dies,
    "trial": trial_dies,
    "raylet": raylet_dies,
    "stopped worker": worker_stops,
    "Ctrl-C": interrupted,
    "hung evaluator": evaluator_hangs,
}
OF_EVALUATORS = ("evaluator", "hung evaluator")  # so the members are there
SURVIVED = ("trial", "stopped worker", *OF_EVALUATORS)
OVERRIDES = {"hung evaluator": ["execution.straggler_seconds=2"]}
ROUNDS = int(os.environ.get("ROUNDS", len(KINDS) - 1))  # the last one has a test in test_hangs.py, too


@pytest.mark.parametrize("number", range(ROUNDS))
def test_after_a_kill_the_same_command_ends_as_if_nothing_had_been(
    number: int, place: Callable[[], Path], trained: Callable[[], Path], reference: Path
) -> None:
    name = list(KINDS)[number % len(KINDS)]
    chance = random.Random(f"{SEED} {number}")
    early = name == "trial" or (name not in OF_EVALUATORS and chance.random() < 0.5)
    base = place() if early else trained()
    hurt = False
    with started(base, *OVERRIDES.get(name, ())) as driver:
        try:
            KINDS[name](base, driver, chance)
            hurt = True
        except (ProcessLookupError, EndedError):
            pass  # the victim was done and gone: a round without a fault
        if driver.poll() is None and name in SURVIVED:
            assert driver.wait(LIMIT) == 0, (base / "log").read_text()[-4000:]
    message = (
        f"round {number}: {name} {'hurt' if hurt else 'was done already'}, {len(rows(base))} rows before the next call"
    )
    sys.stdout.write(f"{message}\n")
    completed(base)
    assert_whole(base, reference)
    synced(base)
    assert_mirrored(base, reference)


FATAL = '''"""A network whose training ends the process."""

import os

from torch import Tensor, nn


class Fatal(nn.Module):
    """A linear layer."""

    def __init__(self, classes: int, inputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits; the process ends at the first batch of a training, not at the two images of the trial before it."""
        if self.training and len(images) > 2:
            os._exit(1)
        return self.head(images.flatten(1))


def fatal(classes: int, channels: int, size: int) -> Fatal:
    """Dies when it is trained."""
    return Fatal(classes, channels * size * size)
'''


def test_a_training_that_ends_its_process_each_time_is_a_failed_member_and_the_others_go_on(
    trained: Callable[[], Path], reference: Path
) -> None:
    base = trained()
    (base / "fatal.py").write_text(FATAL)
    missing = "{architecture: 'fatal:fatal', start: scratch, members: 3, train: {epochs: 1}}"
    text = (base / "hurt.yaml").read_text().replace("populations:", f"populations:\n  - {missing}")
    (base / "hurt.yaml").write_text(text)
    completed(base, "execution.mlflow=false", "execution.retries=1", code=1, PYTHONPATH=str(base))
    members = RunFolder(base / "runs/hurt").read("members").to_pylist()
    dead = [row for row in members if row["architecture"] == "fatal:fatal"]
    assert {row["status"] for row in dead} == {"failed"}
    assert len(dead) == 3
    assert all(row["error"] for row in dead)
    expected = rows(reference)
    assert {key: row for key, row in rows(base).items() if key in expected} == expected


def test_the_undisturbed_run_is_what_it_should_be(reference: Path) -> None:
    assert_whole(reference, reference)
    assert {row["status"] for row in rows(reference).values()} == {"ok"}
    assert {each["kind"] for each in mirrored(reference).values()} == {"sweep", "member", "cell"}
