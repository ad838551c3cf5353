"""Two computers and a cable on this machine: network namespaces of a test's own, which nothing else is joined to."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import pytest

from tests.faults.harness import descendants, environment, wait_for

_CABLE = "cable"
_PORT = 6379
_OBJECTS = 100_000_000  # bytes; a third of the memory for each node is more than a small machine has
_FAST = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class Computer(NamedTuple):
    """A network namespace: the process that holds it, and the address of its end of the cable.

    With `mount`, a command of the shell, its processes see other files than those of the first computer.
    """

    holder: int
    address: str
    mount: str = ""

    @property
    def inside(self) -> tuple[str, ...]:
        """The words before a command that is to run there."""
        words = ("nsenter", "--target", str(self.holder), "--net")
        return (*words, "unshare", "--mount", "sh", "-ec", f'{self.mount}; exec "$@"', "sh") if self.mount else words

    def do(self, *words: str) -> None:
        """Run a command there to its end."""
        subprocess.run([*self.inside, *words], check=True, timeout=60)

    def cut(self) -> None:
        """Pull the cable: whoever is at the other end hears nothing any more."""
        self.do("ip", "link", "set", _CABLE, "down")


def network(pid: int) -> Path:
    """The network namespace of a process."""
    return Path(f"/proc/{pid}/ns/net").readlink()


@functools.cache
def _why_not() -> str:
    """Why this user may make no network; empty where one was made."""
    lacking = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if lacking:
        return f"there is no `{lacking[0]}`"
    if os.geteuid() != 0:
        return "that takes root"
    words = f"ip link set lo up && ip link add name {_CABLE} type veth peer name other"
    return subprocess.run(["unshare", "--net", "sh", "-c", words], capture_output=True, text=True).stderr.strip()


def skip_unless_possible() -> None:
    """Skip a test where this user may make no namespaces."""
    if why := _why_not():
        pytest.skip(f"cannot make the namespaces that the test needs: {why}")


@contextlib.contextmanager
def computers() -> Iterator[tuple[Computer, Computer]]:
    """Two of them, joined by a cable; they are gone once nothing runs there. Skips where this user may make none."""
    skip_unless_possible()
    with _computer("10.77.0.1") as one, _computer("10.77.0.2") as other:
        ends = ("type", "veth", "peer", "name", _CABLE, "netns", str(other.holder))
        one.do("ip", "link", "add", "name", _CABLE, *ends)
        for each in (one, other):
            # without the first, a computer whose cable is cut could not reach itself
            each.do("ip", "address", "add", f"{each.address}/32", "dev", "lo")
            each.do("ip", "address", "add", f"{each.address}/24", "dev", _CABLE)
            each.do("ip", "link", "set", _CABLE, "up")
        yield one, other


@contextlib.contextmanager
def _computer(address: str) -> Iterator[Computer]:
    """One with nothing but a loopback, held by a process that ends with this one."""
    command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        try:
            yield Computer(holder.pid, address)
        finally:
            holder.kill()


@contextlib.contextmanager
def cluster(base: Path, head: Computer, **more: str) -> Iterator[tuple[str, Callable[[Computer], None]]]:
    """The address of a Ray whose head works, too, and what starts a node on another computer."""
    started: list[subprocess.Popen[bytes]] = []
    address = f"{head.address}:{_PORT}"
    place = Path(tempfile.mkdtemp(prefix="links"))  # short: sockets lie there, and their names are limited
    log = (base / "nodes.log").open("ab")

    def start(computer: Computer, *words: str) -> None:
        known = (base / "nodes.log").stat().st_size
        started.append(_node(computer, words, log, environment(**_FAST, **more)))
        wait_for(lambda: b"Ray runtime started" in _since(base / "nodes.log", known), "node", started[-1])

    try:
        start(head, "--head", f"--port={_PORT}", f"--temp-dir={place}", "--include-dashboard=false")
        yield address, lambda computer: start(computer, f"--address={address}")
    finally:
        log.close()
        for process in started:
            for pid in (process.pid, *(pid for pid, _ in descendants(process.pid))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(60)
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def joined(base: Path, computer: Computer, address: str, env: dict[str, str]) -> Iterator[None]:
    """A node of a cluster on a computer; it is gone at the end."""
    with (base / "nodes.log").open("ab") as log:
        process = _node(computer, (f"--address={address}",), log, env)
    try:
        yield
    finally:
        for pid in (process.pid, *(pid for pid, _ in descendants(process.pid))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(60)


def _node(computer: Computer, words: tuple[str, ...], log: IO[bytes], env: dict[str, str]) -> subprocess.Popen[bytes]:
    """`ray start` on a computer, which stays and has all of the node's processes below it."""
    ray = Path(sys.executable).with_name("ray")
    size = ("--num-cpus=1", f"--object-store-memory={_OBJECTS}", f"--node-ip-address={computer.address}")
    command = [*computer.inside, str(ray), "start", "--block", "--disable-usage-stats", *size, *words]
    return subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)


def _since(file: Path, known: int) -> bytes:
    """What was added to a file."""
    with file.open("rb") as opened:
        opened.seek(known)
        return opened.read()
