"""A cluster of one node with a dashboard, which takes jobs: what `ray start --head` gives on any machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweep.execution.ray_checks import connection_problem

SECONDS = 120


@contextmanager
def running_dashboard(base: Path, token: Path) -> Iterator[str]:
    """The address of a dashboard; the nodes find merge-sweep in this repository, and `python` is this one."""
    ports = _free_ports(4)
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
