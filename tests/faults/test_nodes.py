"""Nodes as real processes: one that comes is used, one that is lost is made up for, a secret keeps others out."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.harness import LIMIT, descendants, environment, recorded, rows, started, wait_for
from tests.faults.slowness import go, slowed, tasks

pytestmark = pytest.mark.faults


@contextlib.contextmanager
def cluster(base: Path, **more: str) -> Iterator[tuple[str, Callable[[str], None]]]:
    """The address of a cluster with a head that takes no work, and what tells it to add or lose a node."""
    with (base / "nodes.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "nodes.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(**more),
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None

    def send(line: str) -> None:
        process.stdin.write(f"{line}\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        answer(f"{line} done")

    def answer(pattern: str) -> str:
        for line in process.stdout:  # type: ignore[union-attr]
            if re.fullmatch(pattern, line.strip()):
                return line.strip()
        raise AssertionError((base / "nodes.log").read_text()[-3000:])

    try:
        yield answer(r"[\d.]+:\d+"), send
    finally:
        family = [process.pid, *(pid for pid, _ in descendants(process.pid))]
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(60)
        process.stdout.close()


def test_a_node_that_comes_is_used_and_the_blocks_of_a_missing_one_run_elsewhere(
    trained: Callable[[], Path], reference: Path
) -> None:
    base = trained()
    more = slowed(base) | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with cluster(base, **more) as (address, send):
        send("add")
        with started(base, f"execution.ray_address={address}", **more) as driver:
            wait_for(lambda: recorded(base, "candidates") >= 2, "blocks", driver)
            (first,) = {task["process"] for task in tasks(base)}
            send("add")
            wait_for(lambda: len({task["process"] for task in tasks(base)}) == 2, "work on the second node", driver)
            killed = datetime.now(UTC).replace(tzinfo=None)
            send("kill 0")
            again = wait_for(lambda: [t for t in tasks(base) if t["attempts"] > 1], "blocks that ran again", driver)
            go(base)
            driver.wait(LIMIT)
            assert driver.returncode == 0, (base / "log").read_text()[-3000:]
    assert all(task["process"] != first for task in again)
    assert min(task["created_at"] for task in again) - killed < timedelta(seconds=30)
    found = rows(base)
    expected = rows(reference)
    assert {key: found[key] for key in expected} == expected
    assert {row["status"] for row in found.values()} == {"ok"}


JOIN = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1]).get_all_job_info()
except Exception as error:
    sys.exit(f"refused: {type(error).__name__}: {error}"[:300])
print("in")
"""


def join(address: str, **more: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a process that wants to hear of the jobs of a cluster, as every job does first."""
    command = [sys.executable, "-W", "ignore", "-c", JOIN, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment(**more))


def listening(pids: set[int]) -> list[tuple[str, int]]:
    """Hexadecimal address and port of every TCP socket on which some processes listen."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                inodes.add(str(link.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            field = line.split()
            if field[3] == "0A" and f"socket:[{field[9]}]" in inodes:
                address, port = field[1].split(":")
                found.append((address, int(port, 16)))
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_a_local_ray_listens_on_the_loopback_alone_and_refuses_a_job_without_its_secret(
    place: Callable[[], Path],
) -> None:
    base = place()
    with started(base, "execution.mlflow=false") as driver:
        wait_for(lambda: recorded(base, "members") >= 1, "members", driver)
        os.kill(driver.pid, signal.SIGSTOP)
        family = descendants(driver.pid)
        (gcs,) = [pid for pid, title in family if "gcs_server" in title.split(" ")[0]]
        sockets = listening({driver.pid, *(pid for pid, _ in family)})
        assert len(sockets) >= 4
        assert {address for address, _ in sockets} <= LOOPBACK
        address = f"127.0.0.1:{listening({gcs})[0][1]}"
        variables = Path(f"/proc/{gcs}/environ").read_bytes().split(b"\0")
        (secret,) = [each.decode().partition("=")[2] for each in variables if each.startswith(b"RAY_AUTH_TOKEN=")]
        assert b"RAY_AUTH_MODE=token" in variables
        assert b"RAY_USAGE_STATS_ENABLED=0" in variables
        assert len(secret) == 64
        for more in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
            refused = join(address, **more)
            assert refused.returncode == 1, refused
            assert "refused: AuthenticationError" in refused.stderr, refused.stderr
        let_in = join(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secret)
        assert let_in.stdout == "in\n", let_in.stderr
