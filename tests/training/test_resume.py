"""A training that is really killed, by the kernel, and begun again."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweep.storage.run_folder import RunFolder
from tests.helpers import ROOT

EPOCHS = 30
SWEEP = """
name: resume
dataset: {{arrays: {{file: {file}}}}}
populations:
  - architecture: {{cnn: {{width: 4, dropout: 0.3}}}}
    start: scratch
    members: 1
    train: {{epochs: {epochs}, batch_size: 32, momentum: 0.9, crop: 2, flip: true, mixup: 0.2, ema: 0.9, warmup: 2}}
subsets: {{sizes: [1]}}
methods: [uniform_soup]
execution: {{mlflow: false}}
"""
PROGRAM = """
import sys
from pathlib import Path
from sweep.config.loader import check
from sweep.config.document import parse
from sweep.plan.pools import TrainingGroup
from sweep.training.checkpoint import SaveTimes
from sweep.training.members import train_group
from sweep.model.runtime import setup_worker
from sweep.plan.planner import make_plan
from sweep.core.dataset import load_dataset
from sweep.storage.run_folder import RunFolder

[member] = make_plan(check(parse(Path(sys.argv[1]).read_text(), "test"))).pools[0].members
folder = RunFolder(Path(sys.argv[2]))
device = str(setup_worker(1, 0))
dataset = load_dataset(member.population.dataset)
train_group(TrainingGroup((member,), (member,)), "resume", dataset, folder, device, save_times=SaveTimes(0.05))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    labels = np.arange(500) % 4
    images = random.integers(0, 256, (500, 16, 16, 3)) // 2 + 30 * labels[:, None, None, None]
    np.savez(tmp_path / "images.npz", images=images.astype(np.uint8), labels=labels)
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(file=tmp_path / "images.npz", epochs=EPOCHS))
    return tmp_path / "sweep.yaml"


def started(file: Path, folder: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM, str(file), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def kept(folder: Path) -> dict[str, Any] | None:
    """The training that is not done yet, as far as it was kept."""
    for partial in folder.glob("members/*.partial"):
        return torch.load(partial, weights_only=True)
    return None


def killed_after(epochs: int, file: Path, folder: Path) -> list[tuple[Any, ...]]:
    """Begin, kill once so many epochs are kept; the curve up to there."""
    training = started(file, folder)
    deadline = time.monotonic() + 60
    while (state := kept(folder)) is None or len(state["curve"]) < epochs:
        assert training.poll() is None, training.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(training.pid, signal.SIGKILL)
    training.communicate()
    assert training.returncode == -signal.SIGKILL
    state = kept(folder)
    assert state is not None
    return state["curve"]


def ended(training: subprocess.Popen[str]) -> None:
    message = training.communicate(timeout=60)
    assert training.returncode == 0, message


def weights(folder: Path) -> tuple[dict[str, Any], str]:
    """The member's row, and the hash of its file."""
    [row] = RunFolder(folder).read("members").to_pylist()
    assert row["status"] == "ok", row["error"]
    return row, hashlib.sha256((folder / row["weights_file"]).read_bytes()).hexdigest()


def test_a_killed_training_goes_on_where_it_was_and_ends_with_the_same_bits(file: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    torn = tmp_path / "torn"
    undisturbed = started(file, whole)
    first = killed_after(1, file, torn)
    second = killed_after(len(first) + 2, file, torn)
    assert len(first) < len(second) < EPOCHS
    assert second[: len(first)] == first, "what was trained is not trained again"
    assert len(RunFolder(torn).read("members")) == 0
    ended(started(file, torn))
    ended(undisturbed)
    curves = [RunFolder(folder).read("curves").to_pylist() for folder in (whole, torn)]
    assert [row["epoch"] for row in curves[1]] == list(range(1, EPOCHS + 1))
    assert [row["seconds"] for row in curves[1]][: len(second)] == [point[-1] for point in second]
    for name in ("train_loss", "learning_rate", "validation_accuracy", "validation_cross_entropy"):
        assert [row[name] for row in curves[0]] == [row[name] for row in curves[1]]
    (one, one_hash) = weights(whole)
    (other, other_hash) = weights(torn)
    assert one_hash == one["weights_sha256"] == other["weights_sha256"] == other_hash
    assert one["architecture_kind"] == "cnn"
    assert one["forward_flops"] == 2 * 9 * (3 * 4 * 256 + 4 * 8 * 64 + 8 * 16 * 16) + 2 * (16 * 4 * 32 + 32 * 4)
    assert kept(torn) is None
