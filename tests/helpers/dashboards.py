"""A cluster of one node with a dashboard, as `ray start --head` makes it, and a laptop that submits sweeps to it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep.execution.auth_token import create_token
from sweep.execution.ray_checks import connection_problem

SECONDS = 120
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
"""The secret of the laptop, which stands nowhere on the cluster."""


@contextmanager
def running_dashboard(token: Path) -> Iterator[str]:
    """The address of a dashboard; the nodes find merge-sweep in this repository, and `python` is this one."""
    ports = _free_ports(4)
    base = Path(tempfile.mkdtemp(prefix="ray-"))  # names of sockets have at most 107 bytes
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
    options: dict[str, object] = dict(zip(names, ports, strict=True))
    options |= {"num-cpus": 2, "dashboard-host": "127.0.0.1", "node-ip-address": "127.0.0.1"}
    options |= {"object-store-memory": 80_000_000, "temp-dir": base}
    words = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PATH": path, "RAY_worker_niceness": "0"}
    own["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    with (base / "log").open("w") as log:
        head = subprocess.Popen([*command, *words], env=kept | own, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(ports[1], head, base / "log")
        yield f"http://127.0.0.1:{ports[1]}"
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(30)
        finally:
            _kill_group(head.pid)
            head.wait(30)
            shutil.rmtree(base, ignore_errors=True)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _wait_for(port: int, head: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the dashboard answers."""
    end = time.monotonic() + SECONDS
    while connection_problem("127.0.0.1", port):
        assert head.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, below those that Ray gives to its workers."""
    found = []
    port = 20_000 + os.getpid() % 10_000
    while len(found) < count:
        port += 1
        with socket.socket() as server:
            if server.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


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


@contextmanager
def running_laptop(base: Path) -> Iterator[Laptop]:
    """A laptop with a sweep and its plug-in, and a cluster that it reaches."""
    (base / "laptop").mkdir()
    (base / "laptop/sent.yaml").write_text(SWEEP)
    (base / "laptop/own_network.py").write_text(NETWORK)
    (base / "laptop/beside_it.py").write_text(BESIDE)
    token = create_token(base / "laptop/token")
    with running_dashboard(token) as address:
        yield Laptop(base / "laptop", address, token)
