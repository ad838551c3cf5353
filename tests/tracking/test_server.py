"""MLflow over real connections: a fresh store, a server that is down, and a real one."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from sweep.tracking.connection import quiet_mlflow
from sweep.tracking.tracker import Tracker
from tests.helpers.logs import logged
from tests.helpers.mlflow import NAME, Model, Place, load_model, run_folder


def test_a_new_store_is_made_without_output(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from sweep.tracking.connection import tracking_uri; from sweep.tracking.tracker import Tracker\n"
        "s = Path(sys.argv[1]); t = Tracker(tracking_uri(s), s, 'fresh', 'key', {}, 'folder')\n"
        "t.open(); t.progress(1, 0, 1, 1.0); t.mirror(s / 'fresh', None); t.close('FINISHED')"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "new" / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "new" / "runs" / "mlflow.db-wal").exists() or _journal(tmp_path / "new/runs/mlflow.db") == "wal"


def _journal(file: Path) -> str:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(file)) as connection:
        return str(connection.execute("pragma journal_mode").fetchone()[0])


def test_a_dead_server_is_reported_once_and_stops_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    tracker = Tracker("http://me:secret@127.0.0.1:9", tmp_path, NAME, "key", {}, "folder")
    began = time.monotonic()
    with logged() as lines:
        tracker.open()
        tracker.progress(1, 0, 2, 1.0)
        tracker.mirror(run_folder(tmp_path / NAME), load_model)
        tracker.close("FINISHED")
    assert time.monotonic() - began < 10
    (line,) = lines
    assert f"sweep sync {tmp_path / NAME}" in line
    assert "\n" not in line
    assert "secret" not in line
    assert {name: os.environ.get(name) for name in before} == before
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
    assert capfd.readouterr() == ("", "")


def test_only_lines_of_this_package_are_logged_while_mlflow_works(capfd: pytest.CaptureFixture[str]) -> None:
    handlers = list(logging.root.handlers)
    with logged() as lines, quiet_mlflow():
        for name in ("mlflow.store", "alembic", "torch.export", "urllib3.connectionpool", "sweep.execution.driver"):
            logging.getLogger(name).error(f"from {name}")
    assert lines == ["from sweep.execution.driver"]
    assert logging.root.handlers == handlers
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def server(place: Place) -> Iterator[str]:
    """MLflow's own server over the place's data base; another port where one was taken in the meantime."""
    for _ in range(3):
        process, uri = _start(place)
        _wait(partial(_has_started_or_ended, process, uri), 60)
        if _healthy(uri):
            break
        _stop(process)
    else:
        pytest.fail(f"no server: {(place.storage / 'server.log').read_text()[-2000:]}")
    try:
        yield uri
    finally:
        _stop(process)


def _start(place: Place) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", place.uri, "--artifacts-destination", str(place.storage / "artifacts")]
    quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (place.storage / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=place.storage, env=quiet, start_new_session=True
        )
    return process, f"http://127.0.0.1:{port}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(15)


def _healthy(uri: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _has_started_or_ended(process: subprocess.Popen[bytes], uri: str) -> bool:
    return _healthy(uri) or process.poll() is not None


def _wait(ready: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ready() and time.monotonic() < end:
        time.sleep(0.2)


def test_real_server_takes_everything(place: Place, server: str, capfd: pytest.CaptureFixture[str]) -> None:
    place.uri = server
    capfd.readouterr()
    tracker = place.tracker()
    tracker.open()
    tracker.progress(5, 0, 5, 1.0)
    tracker.mirror(run_folder(place.storage / NAME), load_model, 1)
    tracker.close("FINISHED")
    assert place.lines == []
    assert capfd.readouterr() == ("", "")
    assert [len(place.runs(kind)) for kind in ("sweep", "member", "cell", "candidate")] == [1, 2, 1, 1]
    assert place.runs("sweep")[0].info.status == "FINISHED"
    images = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(place.champion()(images), Model("soup-1").eval()(images))
