"""Sweeps as jobs of a real cluster with a dashboard: submitted, followed, asked and stopped from elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.core.masking import mask_secrets
from sweep.storage.run_folder import RunFolder
from tests.helpers.dashboards import running_dashboard

pytest.importorskip("opencensus", reason="Ray's dashboard needs ray[default], which requirements.lock has")
pytestmark = pytest.mark.slow

SWEEP = """
name: sent
dataset: {digits: {size: 8}}
populations:
  - {architecture: 'own_network:network', members: 2, start: scratch, train: {epochs: 1, batch_size: 256}}
subsets: {sizes: [2]}
methods: [uniform_soup]
metrics: [accuracy]
execution: {mlflow: false, checkpoint_seconds: 1}
"""
NETWORK = '''"""A network of one's own."""

from torch import nn

import beside_it

CITES = ()


def network(classes: int, channels: int, size: int) -> nn.Module:
    """A linear classifier."""
    return nn.Sequential(nn.Flatten(), nn.Linear(beside_it.inputs(channels, size), classes))
'''
BESIDE = '''"""What the network imports."""


def inputs(channels: int, size: int) -> int:
    """The number of values of an image."""
    return channels * size * size
'''
MARK = "MARK-0123456789"


class Laptop:
    """A machine that reaches the dashboard and shares nothing with the nodes."""

    def __init__(self, base: Path, address: str, token: Path) -> None:
        self.base = base
        self.address = address
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        own = {"RAY_AUTH_TOKEN_PATH": str(token), "MLFLOW_TRACKING_PASSWORD": MARK}
        self.env = kept | own | {"PYTHONPATH": os.pathsep.join([str(base), *filter(None, sys.path)])}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A verb of `sweep`, begun."""
        command = [sys.executable, "-m", "sweep", *words, "--address", self.address]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.base, env=self.env, **pipes)

    def sweep(self, *words: str, code: int = 0) -> tuple[str, str]:
        """What a verb prints on stdout and stderr."""
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, out + err
        assert MARK not in out + err
        return out, err


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    base = tmp_path_factory.mktemp("laptop")
    (base / "sent.yaml").write_text(SWEEP)
    (base / "own_network.py").write_text(NETWORK)
    (base / "beside_it.py").write_text(BESIDE)
    token = base / "token"
    subprocess.run([sys.executable, "-m", "sweep", "token", str(token)], check=True, capture_output=True)
    with running_dashboard(Path(tmp_path_factory.mktemp("ray")), token) as address:
        yield Laptop(base, address, token)


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


def test_a_job_that_is_stopped_keeps_its_training_and_is_continued(laptop: Laptop, tmp_path: Path) -> None:
    long = ("submit", "sent.yaml", f"execution.storage={tmp_path}", "name=long", "train.epochs=100000")
    submitting = laptop.start(*long)
    end = time.monotonic() + 200
    while not list(tmp_path.rglob("*.partial")):
        assert submitting.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
    laptop.sweep("stop", "long")
    out, err = submitting.communicate(timeout=100)
    assert submitting.returncode == 143, out + err
    assert "stopped by SIGTERM: trainings are saved" in out
    assert list(tmp_path.rglob("*.partial"))
    assert json.loads((tmp_path / "long/run.json").read_text())["invocations"][-1]["reason"] == "SIGTERM"


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
