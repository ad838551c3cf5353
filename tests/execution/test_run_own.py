"""Whole runs of code of one's own: a new file is found, checked and run, and what kills its worker is isolated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from sweep.core.ids import derive_seed
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
    assert "less than or equal to 1" in wrong.stderr
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
