"""Another computer in the cluster that has other code, or that does not share the run folder: refused by name."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import links
from tests.faults.harness import completed, recorded
from tests.helpers import ROOT

pytestmark = pytest.mark.faults


def test_a_node_with_other_code_that_does_not_share_the_run_folder_is_refused_by_name(
    place: Callable[[], Path],
) -> None:
    base = place()
    edited = base / "edited"  # another name: the working folder is searched for modules
    shutil.copytree(ROOT / "sweep", edited, ignore=shutil.ignore_patterns("__pycache__"))
    with (edited / "core/weights.py").open("a") as file:
        file.write("# an edit\n")
    other_files = f"mount --bind '{edited}' '{ROOT / 'sweep'}' && mount -t tmpfs tmpfs '{base / 'runs'}'"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with links.computers() as (one, other), links.cluster(base, one, **token) as (address, join):
        join(other._replace(mount=other_files))
        settings = (f"execution.ray_address={address}", "execution.mlflow=false")
        printed = completed(base, *settings, before=one.inside, code=2, **token)
    assert "node 10.77.0.2: it has other code of merge-sweep" in printed
    assert f"; it does not see {base / 'runs/hurt'}" in printed
    assert "install the same merge-sweep" in printed
    assert "must be one folder on every node" in printed
    assert recorded(base, "members") == 0
    assert not (base / "runs/hurt/.nodes").exists()
