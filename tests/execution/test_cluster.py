"""How many workers are asked for, and where they would fit."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from sweep.config.spec import Execution
from sweep.execution.cluster import lacking_resources
from sweep.execution.scheduler import n_workers


def node(cpus: float, gpus: float = 0.0, *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}}


@pytest.mark.parametrize(
    ("settings", "nodes", "workers"),
    [
        ({}, [node(2)], 2),
        ({"threads": 2}, [node(5)], 2),
        ({"threads": 3}, [node(8), node(8)], 4),  # not 16 // 3: a worker lies on one node
        ({"threads": 8}, [node(4), node(4)], 1),  # none fits now; a larger node may be on its way
        ({"gpus_per_worker": 0.6}, [node(16, 2)], 2),  # not 2 / 0.6: a share lies on one GPU
        ({"gpus_per_worker": 0.25}, [node(16, 2)], 8),
        ({"gpus_per_worker": 0.25}, [node(3, 2)], 3),
        ({"gpus_per_worker": 0.1}, [node(64, 1)], 10),
        ({"gpus_per_worker": 2}, [node(64, 5), node(64, 1)], 2),
        ({"gpus_per_worker": 1}, [node(0), node(8, 1), node(8, 1)], 2),
        ({"workers": 7}, [node(2)], 7),
        ({}, [node(2), node(8, alive=False)], 2),
        ({}, [], 1),
    ],
)
def test_workers_fit_their_nodes(settings: dict[str, Any], nodes: list[dict[str, Any]], workers: int) -> None:
    assert n_workers(Execution(**settings), nodes) == workers


def test_a_cluster_is_asked_for_more_workers_than_it_has_room_for() -> None:
    assert n_workers(Execution(ray_address="10.0.0.1:6379"), [node(2), node(3)]) == 10
    assert n_workers(Execution(ray_address="10.0.0.1:6379", workers=7), [node(2), node(3)]) == 7
    assert n_workers(Execution(ray_address="10.0.0.1:6379"), [node(0)]) == 1


@pytest.mark.parametrize(
    ("settings", "nodes", "lacks"),
    [
        ({}, [node(1)], ""),
        ({}, [node(0)], "needs 1 CPU, and Ray has no node with more than 0"),
        ({}, [], "needs 1 CPU, and Ray has no node with more than 0"),
        ({"threads": 4}, [node(2), node(2)], "needs 4 CPU, and Ray has no node with more than 2"),
        ({"gpus_per_worker": 0.5}, [node(8)], "needs 0.5 GPU, and Ray has no node with more than 0"),
        ({"gpus_per_member": 2}, [node(8, 1), node(8, 2)], ""),
    ],
)
def test_what_no_node_has_is_named(settings: dict[str, Any], nodes: list[dict[str, Any]], lacks: str) -> None:
    found = lacking_resources(Execution(**settings), [one["Resources"] for one in nodes])
    assert lacks in found
    assert bool(lacks) == bool(found)


def test_workers_have_the_environment_of_the_sweep_below_uv_run_too() -> None:
    """Ray would start each worker with the arguments of `uv run`, which makes an environment anew."""
    code = (
        "import os; from sweep.execution import cluster; os.environ.update(cluster._ENVIRONMENT)\n"
        "from ray._private import ray_constants; assert ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV is False"
    )
    clean = {name: value for name, value in os.environ.items() if name != "RAY_ENABLE_UV_RUN_RUNTIME_ENV"}
    subprocess.run([sys.executable, "-c", code], env=clean, check=True, timeout=120)


def test_a_ray_that_was_imported_before_has_the_secret_too() -> None:
    code = (
        "import ray; from sweep.execution.cluster import cluster; from sweep.config.spec import Execution\n"
        "for _ in range(2):\n"
        "    with cluster(Execution(workers=1)): print(ray.get(ray.remote(lambda: 7).remote()))"
    )
    message = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=message, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["7", "7"]), done.stderr
