"""Nodes that join while a sweep runs and compute otherwise: refused by name and cause, or allowed and recorded."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import pytest

from sweep.storage.run_folder import RunFolder
from tests.faults import links
from tests.faults.harness import LIMIT, completed, environment, started, wait_for
from tests.faults.test_nodes import cluster
from tests.helpers import ROOT

pytestmark = pytest.mark.faults

_PACED = '''"""A network that waits in each forward pass until it may hurry, so that a node has time to join."""

import os
import time
from pathlib import Path

from torch import Tensor, nn


class Paced(nn.Sequential):
    """A linear classifier."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits, after a while."""
        if self.training and not Path(os.environ["HURT_GO"]).exists():
            time.sleep(0.3)
        return super().forward(images)


def paced(classes: int, channels: int, size: int) -> nn.Module:
    """The network."""
    return Paced(nn.Flatten(), nn.Linear(channels * size * size, classes))
'''
_SWEEP = """
name: hurt
dataset: {digits: {size: 8}}
populations:
  - {architecture: 'paced:paced', start: scratch, members: 4, train: {epochs: 2, batch_size: 256, lr: 0.1}}
subsets: {sizes: [2, 3], pairs: all}
methods: [uniform_soup, logit_average]
metrics: [accuracy, cross_entropy]
execution: {block_size: 1, mlflow: false, retries: 0}
"""
_OTHER = "ATEN_CPU_CAPABILITY=default"  # torch then computes without AVX


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with the sweep and its network."""
    (tmp_path / "paced.py").write_text(_PACED)
    (tmp_path / "hurt.yaml").write_text(_SWEEP)
    return tmp_path


def variables(base: Path) -> dict[str, str]:
    """What the nodes and the driver run with."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return token | {"PYTHONPATH": os.pathsep.join([str(base), str(ROOT)]), "HURT_GO": str(base / "go")}


def devices(base: Path, kind: str) -> set[str]:
    """What computed the tasks of a kind; each names its torch, and each block of candidates its block."""
    tasks = [row for row in RunFolder(base / "runs/hurt").read("tasks").to_pylist() if row["kind"] == kind]
    assert all(row["torch"] for row in tasks)
    return {row["device"] for row in tasks}


def test_a_node_with_other_instructions_gets_no_work_unless_it_is_allowed(base: Path) -> None:
    more = variables(base)
    with cluster(base, **more) as (address, send):
        send("add")
        place = f"execution.ray_address={address}"
        with started(base, place, **more) as driver:
            running = base / "runs/hurt/.nodes"
            wait_for(lambda: list(running.glob("*/cpu_capability")), "the first node's handshake", driver)
            send(f"add {_OTHER}")
            wait_for(lambda: "is refused" in (base / "log").read_text(), "the second node's refusal", driver)
            (base / "go").touch()
            driver.wait(LIMIT)
        printed = (base / "log").read_text()
        assert driver.returncode == 0, printed[-3000:]
        assert "is refused: it has instruction set DEFAULT instead of " in printed
        assert len(devices(base, "member") | devices(base, "block")) == 1
        assert not running.exists()
        printed = completed(base, place, "subsets.sizes=[2, 3, 4]", code=2, **more)
        assert "it has instruction set DEFAULT instead of" in printed or "instead of DEFAULT" in printed
        assert "hint: take nodes of one kind, or set execution.mixed_nodes=true" in printed
        mixed = ("execution.mixed_nodes=true", "methods=[uniform_soup, logit_average, greedy_soup]")
        assert "differs: it has instruction set " in completed(base, place, *mixed, **more)
    assert len(devices(base, "block")) == 2
    blocks = {row["block_id"] for row in RunFolder(base / "runs/hurt").read("tasks").to_pylist() if row["block_id"]}
    assert {row["block_id"] for row in RunFolder(base / "runs/hurt").read("candidates").to_pylist()} == blocks


def test_a_run_ends_if_the_only_node_that_joins_has_other_code(base: Path) -> None:
    links.skip_unless_possible()
    edited = base / "edited"
    shutil.copytree(ROOT / "sweep", edited, ignore=shutil.ignore_patterns("__pycache__"))
    with (edited / "core/weights.py").open("a") as file:
        file.write("# an edit\n")
    more = variables(base)
    with cluster(base, **more) as (address, _):
        here = links.Computer(os.getpid(), address.split(":")[0], f"mount --bind '{edited}' '{ROOT / 'sweep'}'")
        with started(base, f"execution.ray_address={address}", **more) as driver:
            wait_for(lambda: "models trained" in (base / "log").read_text(), "training", driver)
            with links.joined(base, here, address, environment(**more)):
                driver.wait(LIMIT)
    printed = (base / "log").read_text()
    assert driver.returncode == 2, printed[-3000:]
    assert f"no node is left to compute on: node {here.address}: it has other code of merge-sweep" in printed
    assert RunFolder(base / "runs/hurt").member_statuses() == {}
