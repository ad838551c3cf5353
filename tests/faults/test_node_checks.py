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


def other_code(base: Path) -> str:
    """A mount that gives a computer an edited copy of the package."""
    copy = base / "edited"  # another name: the working folder is searched for modules
    shutil.copytree(ROOT / "sweep", copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "core/weights.py").open("a") as file:
        file.write("# an edit\n")
    return f"mount --bind '{copy}' '{ROOT / 'sweep'}'"


def other_folder(base: Path) -> str:
    """A mount that hides the storage folder of the driver."""
    return f"mount -t tmpfs tmpfs '{base / 'runs'}'"


@pytest.mark.parametrize(
    ("mount", "problem", "hint"),
    [
        (other_code, "it has other code of merge-sweep", "install the same merge-sweep"),
        (other_folder, "it does not see", "must be one folder on every node"),
    ],
)
def test_a_node_that_would_spoil_the_run_is_refused_by_name(
    place: Callable[[], Path], mount: Callable[[Path], str], problem: str, hint: str
) -> None:
    base = place()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with links.computers() as (one, other), links.cluster(base, one, **token) as (address, join):
        join(other._replace(mount=mount(base)))
        settings = (f"execution.ray_address={address}", "execution.mlflow=false")
        printed = completed(base, *settings, before=one.inside, code=2, **token)
    assert f"node 10.77.0.2: {problem}" in printed
    assert hint in printed
    assert recorded(base, "members") == 0
    assert not (base / "runs/hurt/.nodes").exists()
