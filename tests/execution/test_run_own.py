"""Whole runs of code of one's own: a new file is found, checked and run, and what kills its worker is isolated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from sweep.cli import main
from sweep.core.ids import derive_seed
from sweep.status.summary import failure_causes
from sweep.storage.doctor import folder_findings
from sweep.storage.run_folder import RunFolder
from tests.helpers import ROOT
from tests.helpers.command import sweep
from tests.helpers.small import SMALL

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_new_file_in_methods_is_listed_checked_and_run(tmp_path: Path) -> None:
    """In a copy of the package: no other edit than the new file."""
    source = ROOT / "sweep"
    shutil.copytree(source, tmp_path / "sweep", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sweep/plugins/methods/middle.py").write_text(NEW_METHOD)
    (tmp_path / "sweep/plugins/metrics/hits.py").write_text(NEW_METRIC)
    text = SMALL.replace("- uniform_soup", "- {middle: {pull: [0.25, 1]}}").replace("pools: 2", "pools: 1")
    (tmp_path / "small.yaml").write_text(text.replace("execution:", "metrics: [accuracy, hits]\nexecution:"))
    here = {"PYTHONPATH": str(tmp_path)}
    assert "entrywise median" in sweep("ls", "methods", cwd=tmp_path, **here).stdout
    wrong = sweep("check", "small.yaml", "grids=[{methods: {middle: {pull: 2}}}]", cwd=tmp_path, check=False, **here)
    assert "middle.pull" in wrong.stderr
    assert "at most 1" in wrong.stderr
    sweep("run", "small.yaml", cwd=tmp_path, **here)
    table = RunFolder(tmp_path / "runs/small").read("candidates")
    found = [row for row in table.to_pylist() if row["method"] == "middle"]
    assert found
    assert {row["status"] for row in found} == {"ok"}
    assert all(json.loads(row["other_metrics"])["hits"] == round(row["accuracy"] * row["n_examples"]) for row in found)
    assert pa.types.is_string(table.schema.field("other_metrics").type)


def test_candidates_that_kill_their_worker_are_isolated(tmp_path: Path) -> None:
    """A method of one's own that ends the process for some pairs, and runs out of memory for triples."""
    (tmp_path / "deadly.py").write_text(DEADLY)
    text = SMALL.replace("- uniform_soup", "- deadly:deadly").replace("members: 3", "members: 4")
    text = text.replace("pools: 2", "pools: 1").replace("scalings:", "scalings: none\n#")
    (tmp_path / "small.yaml").write_text(text)
    done = sweep(
        "run",
        "small.yaml",
        "execution.retries=1",
        "execution.block_size=4",
        cwd=tmp_path,
        check=False,
        PYTHONPATH=str(tmp_path),
    )
    assert done.returncode == 1, done.stderr
    found = RunFolder(tmp_path / "runs/small").read("candidates").to_pylist()
    deadly = [row for row in found if row["method"] == "deadly:deadly"]
    outcomes = {"dies": "its worker died", "memory": "MemoryError", "fine": ""}
    seen = set()
    for row in deadly:
        dies = derive_seed(row["candidate_id"], "generator") % 3 == 0
        fate = "memory" if row["n_members"] == 3 else "dies" if dies else "fine"
        seen.add(fate)
        assert row["status"] == ("ok" if fate == "fine" else "failed")
        assert outcomes[fate] in (row["error"] or "")
    assert seen == set(outcomes), "every fate is met"
    assert {row["status"] for row in found if row["method"] != "deadly:deadly"} == {"ok"}


def test_pairs_that_kill_their_worker_leave_a_trace_until_they_are_done(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    (tmp_path / "pairs.yaml").write_text(PAIRS)
    flag = tmp_path / "kill"
    flag.touch()
    variables = {"PYTHONPATH": str(tmp_path), "KILL": str(flag)}
    sweep("run", "pairs.yaml", cwd=tmp_path, **variables)
    folder = RunFolder(tmp_path / "runs/pairs")
    assert folder.read("pairs").num_rows == 0
    (error,) = folder.failed_tasks().values()
    assert error.startswith("its worker died")
    assert {row["status"] for row in folder.read("candidates").to_pylist()} == {"ok"}
    assert all(finding.good for finding in folder_findings(folder))
    (cause,) = failure_causes(folder)
    assert (cause["table"], cause["status"], cause["count"]) == ("tasks", "failed", 1)
    status = CliRunner().invoke(main, ["status", str(folder.path)])
    assert "failed blocks       1 of pairs or inspected models" in status.stdout
    assert "nothing left to do" in status.stdout, "without --retry"
    flag.unlink()
    sweep("run", "pairs.yaml", "--retry", cwd=tmp_path, **variables)
    assert folder.read("pairs").num_rows == 1
    assert failure_causes(folder) == []
    assert all(finding.good for finding in folder_findings(folder))


PAIRS = """
name: pairs
dataset: {digits: {size: 8}}
populations: [{architecture: 'fragile:fragile', members: 2, start: scratch, train: {epochs: 1}}]
subsets: {sizes: [2]}
methods: [uniform_soup]
execution: {mlflow: false, retries: 0, workers: 1}
"""
FRAGILE = '''"""A network that ends the process when pairs of members are compared."""

import os
import traceback
from pathlib import Path

from torch import Tensor, nn


class Fragile(nn.Sequential):
    """Two layers and the fault."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits, unless the file exists and the caller compares pairs."""
        if Path(os.environ["KILL"]).exists() and any(f.name == "pair_rows" for f in traceback.extract_stack()):
            os._exit(1)
        return super().forward(x)


def fragile(classes: int, channels: int, size: int) -> nn.Module:
    """A small multilayer perceptron."""
    return Fragile(nn.Flatten(), nn.Linear(channels * size * size, 8), nn.ReLU(), nn.Linear(8, classes))
'''
DEADLY = '''"""A fault that takes the process with it."""

import os

from torch import Generator

from sweep.core.weights import Members, Weights


def deadly(members: Members, generator: Generator) -> Weights:
    """Ends the process for every third candidate of two members, runs out of memory for three."""
    if len(members) == 3:
        raise MemoryError("three are too many")
    if generator.initial_seed() % 3 == 0:
        os._exit(1)
    return members.mean(0)
'''
NEW_METHOD = '''"""The median: not linear in the members."""

from sweep.core.weights import Members, Probability, Weights


def middle(members: Members, base: Weights, *, pull: Probability = 1.0) -> Weights:
    """The entrywise median of the members, pulled from the base by `pull`."""
    return base + pull * (members.median(0).values - base)
'''
NEW_METRIC = '''"""Hits."""

from torch import Tensor


def hits(logits: Tensor, labels: Tensor) -> int:
    """Number of examples whose class is right."""
    return int((logits.argmax(-1) == labels).sum())
'''
