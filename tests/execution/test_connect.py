"""Clusters that answer and cannot be used: another token or version, and a machine that is none of their nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.execution import cluster
from sweep.execution.ray_checks import LaunchError, RayAddress

pytestmark = [pytest.mark.ray]


def here() -> RayAddress:
    return RayAddress(os.environ["RAY_ADDRESS"], "RAY_ADDRESS")


def test_a_cluster_that_fits_passes() -> None:
    cluster._check_cluster(here())


def test_a_cluster_of_another_version_is_named_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    real = ray.__version__
    monkeypatch.setattr(ray, "__version__", "2.1.0")
    with pytest.raises(LaunchError, match=f"has Ray {real} and Python .*, and this process Ray 2.1.0"):
        cluster._check_cluster(here())


def test_a_machine_that_is_no_node_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ALIVE", -1)
    with pytest.raises(LaunchError, match="this machine is not a node of the cluster") as error:
        cluster._check_cluster(here())
    assert f"ray start --address={here().address}" in error.value.hint


@pytest.mark.parametrize("token", ["a" * 64, ""])
def test_a_token_that_is_wrong_or_missing_is_explained(token: str, tmp_path: Path) -> None:
    """In a process of its own: Ray reads the token once."""
    code = (
        "from sweep.config.spec import Execution; from sweep.execution.cluster import BackgroundCluster\n"
        "with BackgroundCluster(Execution()): pass"
    )
    variables = os.environ | {"RAY_AUTH_TOKEN": token, "HOME": str(tmp_path)}
    if not token:
        del variables["RAY_AUTH_TOKEN"]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False)
    refused = f"the cluster at RAY_ADDRESS={here().address} refuses the token of this process"
    missing = f"no token for the cluster: RAY_AUTH_TOKEN is not set, and nothing is in {tmp_path}/.ray/auth_token"
    assert (refused if token else missing) in done.stderr
