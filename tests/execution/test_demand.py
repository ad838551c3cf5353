"""Waiting for nodes that have room, and workers that are given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.execution.demand import IdleWorkers, ResourceWait
from sweep.execution.ray_checks import LaunchError
from sweep.execution.refusals import Resources
from sweep.storage.run_folder import RunFolder
from tests.execution.test_cluster import node
from tests.helpers.command import sweep
from tests.helpers.logs import logged
from tests.helpers.small import SMALL


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def waited(needed: Resources, nodes: list[dict[str, Any]], limit: float = 90.0) -> tuple[list[str], ResourceWait]:
    """The lines of two minutes in which nothing runs, and the wait."""
    clock = Clock()
    wait = ResourceWait(needed, limit, clock)
    with logged() as lines:
        for _ in range(120):
            wait.look(lambda: nodes, is_waiting=True)
            clock.now += 1
    return lines, wait


def test_a_missing_gpu_is_named_every_half_minute_and_ends_the_run() -> None:
    lines, wait = waited(Resources(1, 0.5), [node(8), node(4, 1, alive=False)], limit=118)
    why = "for a node with 1 CPU and 0.5 GPU: the cluster has none (at most 8 CPU and 0 GPU on one node)"
    assert lines[:3] == [f"waiting {time} {why}" for time in ("30 s", "1 min", "1 min 30 s")]
    with pytest.raises(LaunchError, match=r"nothing could run in 1 min 59 s for a node with 1 CPU and 0\.5 GPU"):
        wait.raise_if_over()


def test_nodes_that_have_it_may_be_busy() -> None:
    lines, wait = waited(Resources(2, 0), [node(8)], limit=1000)
    why = "those that have it are busy, or the process is starting there"
    assert lines[0] == f"waiting 30 s for a node with 2 CPU: {why}"
    wait.raise_if_over()


def test_what_runs_ends_the_wait() -> None:
    clock = Clock()
    wait = ResourceWait(Resources(1, 0), 40, clock)
    with logged() as lines:
        for second in range(200):
            wait.look(lambda: [], is_waiting=second % 20 != 0)
            clock.now += 1
    assert lines == []
    wait.raise_if_over()


def test_idle_workers_go_but_for_one() -> None:
    clock = Clock()
    idle = IdleWorkers(clock)
    calls: dict[str, list[int]] = {"a": [], "b": [], "c": [1], "d": []}
    assert idle.surplus(calls) == []
    clock.now += 20
    calls["d"] = [2]
    assert idle.surplus(calls) == []
    calls["d"] = []
    clock.now += 11
    assert idle.surplus(calls) == ["b"], "a stays, c works, and d has just ended"
    clock.now += 31
    assert idle.surplus(calls) == ["b", "d"]


@pytest.mark.ray
@pytest.mark.parametrize("setting", ["gpus_per_member=1", "gpus_per_worker=1"])
def test_a_gpu_that_the_cluster_has_not_ends_a_run_with_the_reason(setting: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    if "worker" in setting:
        sweep("run", "small.yaml", cwd=tmp_path)
        folder = RunFolder(tmp_path / "runs/small")
        for part in (folder.path / "tables/candidates/parts").glob("*.parquet"):
            part.unlink()
    found = sweep("run", "small.yaml", f"execution.{setting}", "execution.wait_seconds=2", cwd=tmp_path, check=False)
    assert found.returncode == 2
    assert "nothing could run in" in found.stderr
    assert "for a node with 1 CPU and 1 GPU: the cluster has none (at most 2 CPU and 0 GPU on one node)" in found.stderr
    assert "execution.wait_seconds" in found.stderr
