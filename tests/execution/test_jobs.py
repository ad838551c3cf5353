"""Sweeps as jobs of a real cluster with a dashboard: submitted, followed and asked from elsewhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.core.masking import mask_secrets
from sweep.storage.run_folder import RunFolder
from tests.helpers.dashboards import MARK, Laptop, running_laptop

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    with running_laptop(tmp_path_factory.mktemp("jobs")) as laptop:
        yield laptop


def test_a_job_survives_the_machine_that_submitted_it(laptop: Laptop, tmp_path: Path) -> None:
    storage = f"execution.storage={tmp_path}"
    submitting = laptop.start("submit", "sent.yaml", storage)
    assert submitting.stdout is not None
    job = submitting.stdout.readline().strip()
    submitting.send_signal(signal.SIGKILL)
    submitting.communicate()
    log, _ = laptop.sweep("log", job, "--follow")
    assert "2 members and 3 candidates are done" in log
    assert RunFolder(tmp_path / "sent").read("candidates").num_rows == 3
    printed, state = laptop.sweep("status", "sent", "--json")
    assert json.loads(printed)["candidates"]["done"] == 3
    assert f"{job}: SUCCEEDED" in state
    laptop.sweep("report", "sent", "-o", "page.html")
    assert "uniform_soup" in (laptop.base / "page.html").read_text()
    _, refused = laptop.sweep("stop", job, code=2)
    assert "has ended: SUCCEEDED" in refused


def test_nothing_secret_is_sent_with_a_job(laptop: Laptop) -> None:
    _, refused = laptop.sweep("submit", "sent.yaml", "execution.storage=/x", "--env", f"MY_TOKEN={MARK}", code=2)
    assert "MY_TOKEN holds a secret and is not sent" in refused
    address = "http://me:MARK-word-1@host"
    _, refused = laptop.sweep(
        "submit", "sent.yaml", "execution.storage=/x", "--env", f"MLFLOW_TRACKING_URI={address}", code=2
    )
    assert "MLFLOW_TRACKING_URI holds a secret" in refused
    code = "import sys; from sweep.execution.jobs import Jobs; print(Jobs(sys.argv[1])._client.list_jobs())"
    command = [sys.executable, "-c", code, laptop.address]
    printed = subprocess.run(command, env=laptop.env, check=True, capture_output=True, text=True).stdout
    assert "merge_sweep_job.py" in printed
    assert MARK not in printed
    assert printed == mask_secrets(printed)


def test_a_cluster_that_refuses_or_is_none_is_explained(laptop: Laptop) -> None:
    _, printed = laptop.sweep("log", "absent", code=2)
    assert f"no job or sweep absent at {laptop.address}" in printed
    laptop.env["RAY_AUTH_TOKEN"] = "0" * 64
    _, printed = laptop.sweep("log", "absent", code=2)
    del laptop.env["RAY_AUTH_TOKEN"]
    assert "refuses the token of this process" in printed
