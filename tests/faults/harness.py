"""A small sweep that is hurt while it runs: who its processes are, and what must hold afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from click.testing import CliRunner, Result

from sweep.storage.compact import compact
from sweep.storage.doctor import folder_findings
from sweep.storage.files import leftover_files
from sweep.storage.run_folder import RunFolder

SWEEP = """
name: hurt
dataset: {digits: {size: 8}}
populations:
  - {architecture: {mlp: {hidden: [16]}}, members: 3, train: {epochs: 3, batch_size: 128, lr: 0.1}}
subsets: {sizes: [2, 3], pairs: all}
methods: [uniform_soup, greedy_soup, logit_average, {feature_average: {head: [first, average]}}]
scalings: [none, {magnify: {factor: 2, members: [all, first]}}]
metrics: [accuracy, cross_entropy, brier, ece, 'pace:pace']
execution: {block_size: 2, workers: 2, mlflow_models: 0, checkpoint_seconds: 0}
"""
MEASURED = ("accuracy", "cross_entropy", "brier", "ece", "status", "error", "finite", "n_examples")
SEED = int(os.environ.get("SEED", "20"))  # by default most runs are hurt after training, which keeps the suite short
LIMIT = 600.0  # seconds: far more than anything here takes on a busy machine
HERE = Path(__file__).parent
COMMAND = (sys.executable, "-m", "sweep", "run", "hurt.yaml")


class EndedError(AssertionError):
    """A run was over before what was waited for."""


def environment(**more: str) -> dict[str, str]:
    """One thread each, the metric of `pace.py`, workers of normal priority, and nothing of the surroundings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_TRACKING"))}
    own = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    own |= {"RAY_worker_niceness": "0"}
    places = [str(HERE), more.get("PYTHONPATH"), kept.get("PYTHONPATH")]
    return kept | own | more | {"PYTHONPATH": os.pathsep.join(filter(None, places))}


@contextlib.contextmanager
def started(base: Path, *overrides: str, before: Sequence[str] = (), **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The sweep's command, in a session of its own; whatever is left of it is gone at the end."""
    command = [*before, *COMMAND, *overrides]
    env = environment(**more)
    with (base / "log").open("ab") as log:
        driver = subprocess.Popen(command, cwd=base, env=env, stdout=log, stderr=log, start_new_session=True)
    family: set[int] = set()
    try:
        yield driver
        family = {pid for pid, _ in descendants(driver.pid)}
    finally:
        family |= {pid for pid, _ in descendants(driver.pid)}
        for pid in (driver.pid, *family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        driver.wait(60)


def completed(base: Path, *overrides: str, code: int = 0, before: Sequence[str] = (), **more: str) -> str:
    """The same command to its end; what it said."""
    with started(base, *overrides, before=before, **more) as driver:
        driver.wait(LIMIT)
        printed = (base / "log").read_text()
        assert driver.returncode == code, printed[-4000:]
    return printed


def descendants(pid: int) -> list[tuple[int, str]]:
    """Process ids and titles of all that a process started, and those started in turn."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            title = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parents.setdefault(parent, []).append((int(place.name), title))
    found = []
    open_ = [pid]
    while open_:
        for child in parents.get(open_.pop(), []):
            found.append(child)
            open_.append(child[0])
    return found


def wait_for(condition: Callable[[], Any], what: str, driver: subprocess.Popen[bytes] | None = None) -> Any:
    """What the condition gives once it is true; fails if the driver ends before."""
    end = time.monotonic() + LIMIT
    while not (found := condition()):
        if driver is not None and driver.poll() is not None:
            raise EndedError(f"the run ended before {what}")
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.02)
    return found


def recorded(base: Path, table: str) -> int:
    """How many members have a row, or how many blocks have rows of `candidates`; a part may hold several."""
    key = {"members": "member_id", "candidates": "block_id"}[table]
    return len(RunFolder(base / "runs/hurt").read(table, [key])[key].unique())


def worker(driver: subprocess.Popen[bytes], title: str, chance: random.Random) -> int:
    """One of the driver's Ray processes of that title, once there is one."""
    return chance.choice(
        wait_for(
            lambda: [pid for pid, named in descendants(driver.pid) if named.startswith(f"ray::{title}")],
            f"process called ray::{title}",
            driver,
        )
    )


def rows(base: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What was measured by id and split; a repeated key fails."""
    table = RunFolder(base / "runs/hurt").read("candidates").to_pylist()
    found = {(row["candidate_id"], row["split"]): {key: row[key] for key in MEASURED} for row in table}
    assert len(found) == len(table)
    return found


def planned(base: Path) -> set[str]:
    """The ids that are planned."""
    plan = pq.read_table(base / "runs/hurt/plan.parquet", filters=[("planned", "=", True)])
    return set(plan["candidate_id"].to_pylist())


def weights(base: Path) -> dict[str, str]:
    """Hash of the weights of every member; a repeated member fails."""
    table = RunFolder(base / "runs/hurt").read("members", ["member_id", "weights_sha256"]).to_pylist()
    found = {row["member_id"]: row["weights_sha256"] for row in table}
    assert len(found) == len(table)
    return found


def assert_whole(base: Path, reference: Path) -> None:
    """Nothing lost, nothing twice, nothing changed, nothing left over: before and after the parts are put together."""
    folder = RunFolder(base / "runs/hurt")
    for _ in range(2):
        assert rows(base) == rows(reference)
        assert weights(base) == weights(reference)
        assert {identity for identity, _ in rows(base)} == planned(base)
        bad = [finding for finding in folder_findings(folder) if not finding.good]
        assert not bad
        compact(folder)
    assert leftover_files(folder.path / "members") == leftover_files(folder.path / "tables") == []
    assert not list(folder.path.rglob("*.partial"))


def mirrored(base: Path, name: str = "mlflow.db") -> dict[str, Any]:
    """What MLflow says of the sweep, by key; a repeated key fails. Times are left out."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{base}/runs/{name}")
    experiment = client.get_experiment_by_name("sweep/hurt")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    found = {run.data.tags["ms.key"]: _status_output(run) for run in runs}
    assert len(found) == len(runs)
    return found


def _status_output(run: Any) -> dict[str, Any]:
    timed = ("seconds", "progress/", "per_second")
    metrics = {name: value for name, value in run.data.metrics.items() if not any(word in name for word in timed)}
    return {"kind": run.data.tags["ms.kind"], "status": run.info.status, "params": run.data.params, "metrics": metrics}


def sync(base: Path, **variables: str) -> Result:
    """`sweep sync` on the run folder, in this process."""
    from sweep.cli.main import main

    return CliRunner().invoke(main, ["sync", str(base / "runs/hurt")], env=variables)


def synced(base: Path, **variables: str) -> None:
    """`sweep sync` on the run folder, without a fault."""
    done = sync(base, **variables)
    assert done.exit_code == 0, done.output


def assert_mirrored(base: Path, reference: Path, name: str = "mlflow.db") -> None:
    """MLflow says the same as after an undisturbed run."""
    found = mirrored(base, name)
    expected = mirrored(reference)
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)
