"""A finished run says what it comes to from its folder alone: as the plan would, without data and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sweep.config import load
from sweep.outline import finished
from sweep.plan import make_plan
from sweep.standing import OUTLINE
from sweep.state import freeze, state_of
from sweep.store import RunFolder
from sweep.summary import plan_summary, plan_text, run_summary
from sweep.table import SCHEMA_VERSION


@pytest.fixture
def done(small: Callable[..., Path]) -> Path:
    """A sweep's file; its run folder holds every row, some of them failed."""
    file = small()
    sweep = load(file)
    folder, plan = RunFolder(sweep.folder), make_plan(sweep)
    folder.create({"schema_version": SCHEMA_VERSION, "sweep": sweep.name, "created_at": "2025-01-01T00:00:00Z"})
    freeze(folder, sweep, plan)
    starts = [pool.start for pool in plan.pools if pool.start]
    members = [{"member_id": each.id, "status": "ok"} for each in (*starts, *plan.members)]
    members[-1]["status"] = "failed"
    folder.append("members", "all", members)
    rows = [{"candidate_id": each.id, "split": "test", "status": "ok"} for each in plan.candidates]
    for row in rows[::7]:
        row["status"] = "failed"
    folder.append("candidates", "most", rows[:-1])
    folder.append("candidates", "last", rows[-1:])
    return file


def test_a_finished_run_says_what_the_plan_says(done: Path) -> None:
    sweep = load(done)
    found, whole = run_summary(sweep.folder), plan_summary(state_of(sweep))
    assert found == whole
    assert found is not None
    assert plan_text(found) == plan_text(whole)
    assert found["members"]["failed"] == 1
    assert found["candidates"]["failed"] > 1
    assert plan_text(found)[-1].endswith("nothing left to do")


def test_torch_is_not_needed(done: Path) -> None:
    code = "import sys; from sweep.cli import main; main(standalone_mode=False); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "status", str(load(done).folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.endswith("nothing left to do\nFalse\n")


def test_what_is_not_finished_is_left_to_the_plan(done: Path) -> None:
    sweep = load(done)
    folder = RunFolder(sweep.folder)
    assert finished(folder) is not None
    aside = folder.path / "aside"
    for table, part in (("candidates", "last"), ("members", "all")):
        file = folder.part(table, part)
        file.rename(aside)
        assert finished(folder) is None, table
        aside.rename(file)
    assert finished(folder) is not None


def test_another_configuration_or_version_is_left_to_the_plan(done: Path) -> None:
    sweep = load(done)
    folder = RunFolder(sweep.folder)
    file = folder.path / "sweep.yaml"
    whole = file.read_text()
    file.write_text(f"{whole}\n# another plan is to come\n")
    assert finished(folder) is None
    file.unlink()
    assert finished(folder) is None
    file.write_text(whole)
    assert finished(folder) is not None
    plan = pq.read_table(folder.path / "plan.parquet")
    told = json.loads(plan.schema.metadata[OUTLINE])
    for other in (b"{}", json.dumps(told | {"news": 1}).encode(), json.dumps(told | {"versions": [1, 0]}).encode()):
        metadata = plan.schema.metadata | {OUTLINE: other}
        pq.write_table(plan.replace_schema_metadata(metadata), folder.path / "plan.parquet")
        assert finished(folder) is None
    assert plan_summary(state_of(sweep))["candidates"]["new"] == 0


def test_candidates_of_earlier_plans_do_not_count(done: Path) -> None:
    smaller = load(done, ["methods=uniform_soup"])
    freeze(RunFolder(smaller.folder), smaller, make_plan(smaller))
    found = run_summary(smaller.folder)
    assert found == plan_summary(state_of(smaller))
    assert found is not None
    assert found["methods"].keys() == {"single", "uniform_soup"}
