"""Secrets of the environment, of addresses and of errors: searched for in all that runs, reports and verbs leave."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from analysis.cli.main import main as analysis
from sweep.cli.main import main as sweep

pytestmark = pytest.mark.slow

_LEAKY = '''"""A network and a method that fail, with an error that quotes what it must not."""

import os
from urllib.error import URLError

from torch import Tensor, nn

from sweep.core.weights import Members, Weights

CITES = ()


def text() -> str:
    """An address and a secret."""
    return f"no answer from postgresql://me:MARK-in-error-1@host/db, token={os.environ['AWS_SECRET_ACCESS_KEY']}"


class Net(nn.Sequential):
    """A linear classifier that cannot be trained."""

    def forward(self, images: Tensor) -> Tensor:
        """Raise in training."""
        if self.training and images.shape[0] > 8 and images.device.type == "cpu":
            raise ConnectionError(text())
        return super().forward(images)


def net(classes: int, channels: int, size: int) -> nn.Module:
    """The network."""
    return Net(nn.Flatten(), nn.Linear(channels * size * size, classes))


def method(members: Members) -> Weights:
    """Raise."""
    raise URLError(text())
'''
_SWEEP = """
name: kept
dataset: {digits: {size: 8}}
populations:
  - {name: good, architecture: linear, members: 2, start: scratch, train: {epochs: 1, batch_size: 256}}
  - {name: bad, architecture: 'leaky:net', members: 2, start: scratch, train: {epochs: 1, batch_size: 256}}
subsets: {sizes: [2]}
methods: [uniform_soup, 'leaky:method']
metrics: [accuracy, cross_entropy]
execution: {workers: 1, retries: 0}
"""
_SERVER = "http://me:MARK-in-uri-1@127.0.0.1:9"
_OVERRIDE = "execution.ray_address=ray://me:MARK-1@head:1"
_SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "MARK-mlflow-1",
    "AWS_SECRET_ACCESS_KEY": "MARK/aws+key=1",
    "RAY_AUTH_TOKEN": "MARK" + "0123456789abcdef" * 4,
    "RAY_AUTH_MODE": "token",
}
_MARK = "MARK"


def leaks(folder: Path) -> list[str]:
    """The files below a folder that hold a mark, with what is around the first."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        if file.suffix == ".parquet":
            content += str([pq.read_table(file).to_pylist(), pq.read_schema(file).metadata]).encode()
        if file.suffix == ".db":
            with contextlib.closing(sqlite3.connect(file)) as database:
                content += "".join(database.iterdump()).encode()
        place = content.find(_MARK.encode())
        if place >= 0:
            found.append(f"{file}: {content[max(0, place - 60) : place + 40]!r}")
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plug-ins, and in it the working folder with the sweep."""
    base = tmp_path_factory.mktemp("secrets")
    (base / "work").mkdir()
    (base / "work/kept.yaml").write_text(_SWEEP)
    (base / "leaky.py").write_text(_LEAKY)
    return base


def run(base: Path, *words: str, code: int, **more: str) -> str:
    """What `sweep run` prints in a process of its own, whose workers have its variables."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")}
    env = kept | _SECRETS | more | {"PYTHONPATH": os.pathsep.join([str(base), *sys.path])}
    command = [sys.executable, "-m", "sweep", "run", "kept.yaml", *words]
    done = subprocess.run(command, cwd=base / "work", env=env, capture_output=True, text=True, timeout=400, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    return without_marks(base, printed)


def verb(base: Path, *words: str, group: click.Group = sweep, code: int = 0, **more: str) -> str:
    """What a verb prints in this process."""
    env = {"RAY_ADDRESS": None, "MLFLOW_TRACKING_URI": None, "HOME": str(base)} | _SECRETS | more
    with contextlib.chdir(base / "work"):
        done = CliRunner().invoke(group, words, env=env)
    assert done.exit_code == code, done.output
    return without_marks(base, done.output)


def without_marks(base: Path, printed: str) -> str:
    """A text that holds no mark; the working folder holds none either."""
    assert _MARK not in printed
    assert not leaks(base / "work")
    return printed


def test_no_secret_is_left_by_a_run_whose_server_is_gone_and_whose_plugins_fail(base: Path) -> None:
    printed = run(base, "margin=0.01", code=1, MLFLOW_TRACKING_URI=_SERVER)
    assert "MLflow at http://***@127.0.0.1:9 cannot be used" in printed
    failures = verb(base, "failures", "runs/kept")
    assert "no answer from postgresql://***@host/db, token=***" in failures
    assert {line.split()[1] for line in failures.splitlines() if "postgresql" in line} >= {"members", "candidates"}


def test_no_secret_is_left_by_an_override_that_is_recorded(base: Path) -> None:
    """Nothing is left to compute, so that the address is not used; the call is recorded, since a margin changed."""
    assert "MLflow: " in run(base, "margin=0.02", _OVERRIDE, code=1)
    assert "execution.ray_address=ray://***@head:1" in (base / "work/runs/kept/run.json").read_text()
    assert "ray_address: ray://***@head:1" in (base / "work/runs/kept/sweep.yaml").read_text()


@pytest.mark.parametrize("uri", [_SERVER, "postgresql://me:MARK-in-uri-2@127.0.0.1:9/db"])
def test_no_verb_prints_a_secret(base: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(base)
    more = {"MLFLOW_TRACKING_URI": uri, "RAY_ADDRESS": "ray://me:MARK-1@head:1"}
    assert "://***@127.0.0.1:9" in verb(base, "doctor", **more)
    verb(base, "doctor", "runs/kept", **more)
    verb(base, "status", "runs/kept", "--json", **more)
    assert "ray://***@head:1" in verb(base, "plan", "kept.yaml", _OVERRIDE, **more)
    verb(base, "sql", "runs/kept", "select * from members, candidates, tasks", "--json", **more)
    verb(base, "sync", "runs/kept", code=1, **more)


def test_the_report_and_mlflow_hold_no_secret(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(base)
    verb(base, "sync", "runs/kept")
    verb(base, "report", "runs/kept", group=analysis)
    assert (base / "work/runs/kept/report.html").stat().st_size > 0
    assert (base / "work/runs/mlflow.db").stat().st_size > 0


_JOB = """
from sweep.config.spec import Execution
from sweep.execution.cluster import cluster

with cluster(Execution(workers=1)):
    import ray

    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    print([job.entrypoint for job in client.get_all_job_info().values()])
"""


def test_the_job_that_ray_describes_holds_no_secret() -> None:
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", _JOB, _OVERRIDE]
    printed = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=200, check=True).stdout
    assert "execution.ray_address=ray://***@head:1" in printed
    assert _MARK not in printed
