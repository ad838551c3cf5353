"""A tracking server that is killed while a sweep runs, or wants a password: told, not waited for, made good later."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.harness import (
    LIMIT,
    SEED,
    assert_mirrored,
    assert_whole,
    environment,
    mirrored,
    recorded,
    started,
    sync,
    synced,
    wait_for,
)

pytestmark = pytest.mark.faults


@contextlib.contextmanager
def server(base: Path, *words: str, **more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """MLflow's own server on the loopback, with the data base of the storage folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{base}/runs/mlflow.db"]
    command += ["--artifacts-destination", str(base / "artifacts"), *words]
    with (base / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=base,
            stdout=log,
            stderr=log,
            env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", **more),
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
        return _asked(address) == 200
    except OSError:
        return False


def _asked(address: str) -> int:
    """The status of an answer; HTTPError where it is a refusal."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=20) as answer:
        return int(answer.status)


def test_a_server_that_is_killed_is_reported_and_sync_makes_it_good(
    trained: Callable[[], Path], reference: Path
) -> None:
    base = trained()
    chance = random.Random(SEED)
    with server(base) as (uri, process), started(base, MLFLOW_TRACKING_URI=uri) as driver:
        count = chance.randrange(1, 15)
        wait_for(lambda: recorded(base, "candidates") >= count, "blocks", driver)
        time.sleep(chance.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGKILL)
        assert driver.wait(LIMIT) == 0
    assert "going on without it: `sweep sync" in (base / "log").read_text()
    assert_whole(base, reference)
    with server(base) as (uri, _):
        synced(base, MLFLOW_TRACKING_URI=uri)
    assert_mirrored(base, reference)


ACCESS = """
[mlflow]
default_permission = READ
database_uri = sqlite:///{base}/users.db
admin_username = admin
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


def test_a_server_with_basic_auth_lets_nobody_in_without_the_password_and_says_what_to_set(
    trained: Callable[[], Path],
) -> None:
    base = trained()
    password = secrets.token_hex(16)
    (base / "access.ini").write_text(ACCESS.format(base=base, password=password))
    more = {
        "MLFLOW_AUTH_CONFIG_PATH": str(base / "access.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
    }
    user = {"MLFLOW_TRACKING_USERNAME": "admin"}
    with server(base, "--app-name", "basic-auth", **more) as (uri, _):
        with pytest.raises(urllib.error.HTTPError) as refused:
            _asked(f"{uri}/api/2.0/mlflow/experiments/search?max_results=1")
        refused.value.close()
        assert refused.value.code == 401
        for message in ({}, user | {"MLFLOW_TRACKING_PASSWORD": "wrong"}):
            done = sync(base, MLFLOW_TRACKING_URI=uri, **message)
            assert (done.exit_code, done.stdout) == (1, "")
            (line,) = done.stderr.splitlines()
            assert line.startswith(f"MLflow at {uri} cannot be used (401 unauthorized: set MLFLOW_TRACKING_USERNAME")
        done = sync(base, MLFLOW_TRACKING_URI=uri, **user, MLFLOW_TRACKING_PASSWORD=password)
    assert done.exit_code == 0, done.output
    assert password not in done.output
    assert sorted(run["kind"] for run in mirrored(base).values()) == ["member"] * 3 + ["sweep"]
