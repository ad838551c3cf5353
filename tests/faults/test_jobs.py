"""A job of a cluster that is stopped from elsewhere: its training is saved, and the same command continues it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweep.storage.run_folder import RunFolder
from tests.faults.harness import wait_for
from tests.helpers.dashboards import running_laptop

pytestmark = [pytest.mark.faults, pytest.mark.ray]


def test_a_job_that_is_stopped_keeps_its_training_and_is_continued(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with running_laptop(tmp_path) as laptop:
        command = ("submit", "sent.yaml", f"execution.storage={runs}", "train.epochs=1200")
        submitting = laptop.start(*command)
        wait_for(lambda: list(runs.rglob("*.partial")), "saved training")
        assert submitting.poll() is None
        laptop.sweep("stop", "sent")
        out, err = submitting.communicate(timeout=100)
        assert submitting.returncode == 143, out + err
        assert "stopped by SIGTERM: trainings are saved" in out
        assert list(runs.rglob("*.partial"))
        assert json.loads((runs / "sent/run.json").read_text())["invocations"][-1]["reason"] == "SIGTERM"
        laptop.sweep(*command)
    assert RunFolder(runs / "sent").read("candidates").num_rows == 3
