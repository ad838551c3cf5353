"""A Slurm of one node on this machine, of the daemons that Debian packages, in a namespace of processes of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "unshare")
_CONF = """
ClusterName=one
SlurmctldHost={host}
SlurmctldPort={first}
SlurmdPort={second}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={base}/munge.socket
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
NodeName={host} CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP
"""
# The first process of a namespace has to take in all whose parents have ended.
_FIRST = 'slurmd -D -f "$0" & while true; do wait -n || sleep 0.2; done'


def missing_programs() -> str:
    """What is not there to run Slurm; empty if it can be run."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "the daemons of Slurm are started by root here"


@contextmanager
def running_slurm(base: Path) -> Iterator[dict[str, str]]:
    """The variables that lead the commands of Slurm to a running one."""
    for name in ("state", "spool"):
        (base / name).mkdir()
    (base / "key").write_bytes(os.urandom(128))
    (base / "key").chmod(0o600)
    base.chmod(0o755)
    ports = [_free_port() for _ in range(2)]
    host = socket.gethostname().partition(".")[0]
    conf = base / "slurm.conf"
    conf.write_text(_CONF.format(base=base, host=host, cpus=os.cpu_count(), first=ports[0], second=ports[1]))
    env = os.environ | {"SLURM_CONF": str(conf)}
    places = [f"--{name}={base}/munge.{name}" for name in ("socket", "log-file", "pid-file", "seed-file")]
    munged = ["munged", "--foreground", "--force", f"--key-file={base}/key", *places]
    first = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", _FIRST, str(conf)]
    with ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D", "-f", str(conf)], first):
            stack.enter_context(_running(command, env, base / f"{command[0]}.log"))
            time.sleep(1)
        wait_until(lambda: "idle" in output(env, "sinfo", "-h", "-o", "%T"), 60)
        yield env


@contextmanager
def _running(command: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def output(env: dict[str, str], *command: str) -> str:
    """What a command of Slurm prints."""
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()


def wait_until(condition: object, seconds: float) -> None:
    """Return once a call is true."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("", 0))
        port: int = server.getsockname()[1]
    return port
