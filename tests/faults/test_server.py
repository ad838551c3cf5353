"""A tracking server that is killed while a sweep runs: told, not waited for, and made good by `sweep sync`."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import LIMIT, assert_mirrored, assert_whole, environment, parts, started, wait_for

pytestmark = pytest.mark.faults


@contextlib.contextmanager
def server(base: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """MLflow's own server on the loopback, with the data base of the storage folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{base}/runs/mlflow.db"]
    command += ["--artifacts-destination", str(base / "artifacts")]
    with (base / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=base,
            stdout=log,
            stderr=log,
            env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
            start_new_session=True,
        )
    try:
        wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health"), "answer of the server", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def _answers(address: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_server_that_is_killed_is_told_and_sync_makes_it_good(trained: Callable[[], Path], reference: Path) -> None:
    base, chance = trained(), random.Random(int(os.environ.get("SEED", "1")))
    with server(base) as (uri, process), started(base, MLFLOW_TRACKING_URI=uri) as driver:
        count = chance.randrange(1, 15)
        wait_for(lambda: parts(base, "candidates") >= count, "blocks", driver)
        time.sleep(chance.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGKILL)
        assert driver.wait(LIMIT) == 0
    assert "going on without it: `sweep sync" in (base / "log").read_text()
    assert_whole(base, reference)
    command = [sys.executable, "-m", "sweep", "sync", "runs/hurt"]
    with server(base) as (uri, _):
        env = environment(MLFLOW_TRACKING_URI=uri)
        done = subprocess.run(command, cwd=base, env=env, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert_mirrored(base, reference)
