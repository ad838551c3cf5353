"""A run folder says how far it is: as the plan would, without data and without torch."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from sweep.cli.text import plan_text
from sweep.config.loader import load
from sweep.core.dataset import load_dataset
from sweep.plan.planner import make_plan
from sweep.plan.pools import Member, unique_members
from sweep.status.outline import read_status
from sweep.status.state import load_state, write_plan_files
from sweep.status.summary import plan_summary, run_summary
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import OUTLINE, SCHEMA_VERSION


@pytest.fixture
def done(small: Callable[..., Path]) -> Path:
    """A sweep's file; its run folder holds every row, some of them failed."""
    file = small()
    sweep = load(file)
    folder = RunFolder(sweep.folder)
    plan = make_plan(sweep)
    folder.create({"schema_version": SCHEMA_VERSION, "sweep": sweep.name, "created_at": "2025-01-01T00:00:00Z"})
    write_plan_files(folder, sweep, plan)
    starts = [pool.start for pool in plan.pools if pool.start]
    members = [{"member_id": each.id, "status": "ok", **_origin(each)} for each in (*starts, *plan.members)]
    members[-1]["status"] = "failed"
    folder.append("members", "all", members)
    rows = [{"candidate_id": each.id, "split": "test", "status": "ok"} for each in plan.candidates]
    for row in rows[::7]:
        row["status"] = "failed"
    folder.append("candidates", "most", rows[:-1])
    folder.append("candidates", "last", rows[-1:])
    pairs = [(a.id, b.id) for pool in plan.pools for a, b in itertools.combinations(pool.members, 2)]
    folder.append("pairs", "all", [{"member_a": a, "member_b": b} for a, b in pairs])
    return file


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep's file, whose two pools share a model and their base; nothing is carried out yet, but planned."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for name in ("base", "a", "b", "c"):
        torch.save(torch.nn.Linear(64, 10).state_dict(), f"{name}.pt")
    text = "{architecture: linear, base: base.pt, checkpoints: [[a.pt, b.pt], [a.pt, c.pt]]}"
    file = tmp_path / "shared.yaml"
    data = "name: shared\ndataset: {digits: {size: 8}}\n"
    file.write_text(f"{data}populations: [{text}]\nsubsets: {{pairs: all}}\nmethods: uniform_soup\n")
    sweep = load(file)
    folder = RunFolder(sweep.folder)
    folder.create({"schema_version": SCHEMA_VERSION, "sweep": sweep.name, "created_at": "2025-01-01T00:00:00Z"})
    write_plan_files(folder, sweep, load_state(sweep).plan)
    return file


def _origin(member: Member) -> dict[str, str]:
    """The columns of a member's row by which another run would know how long such a network takes."""
    architecture = member.population.architecture
    dataset = member.population.dataset
    message = {"architecture": architecture.name, "architecture_settings": architecture.settings_json}
    message |= {"dataset": dataset.name, "dataset_settings": dataset.settings_json}
    return message | {"role": member.role, "pool_id": member.pool_id}


def test_a_finished_run_says_what_the_plan_says(done: Path) -> None:
    sweep = load(done)
    found = run_summary(sweep.folder)
    whole = plan_summary(load_state(sweep))
    assert found == whole
    assert found is not None
    assert plan_text(found) == plan_text(whole)
    assert found["members"]["failed"] == 1
    assert found["candidates"]["failed"] > 1
    assert plan_text(found)[-1].endswith("nothing left to do")


def test_pairs_without_a_row_are_something_left(done: Path) -> None:
    sweep = load(done)
    folder = RunFolder(sweep.folder)
    n = len(folder.read("pairs"))
    folder.part_file("pairs", "all").unlink()
    found = run_summary(sweep.folder)
    assert found == plan_summary(load_state(sweep))
    assert found is not None
    assert 0 < found["pairs"] < n, "those of the failed member do not count"
    assert not plan_text(found)[-1].endswith("nothing left to do")


def test_pairs_of_a_failed_block_wait_for_a_retry(done: Path) -> None:
    sweep = load(done)
    folder = RunFolder(sweep.folder)
    folder.part_file("pairs", "all").unlink()
    for pool in make_plan(sweep).pools:
        folder.append("tasks", pool.id, [{"task_id": pool.id, "kind": "block", "pool_id": pool.id, "status": "failed"}])
    found = run_summary(sweep.folder)
    assert found == plan_summary(load_state(sweep))
    assert found is not None
    assert (found["pairs"], found["failed_tasks"]) == (0, 2)
    folder.retire_failed_tasks()
    assert load_state(sweep).n_missing_pairs > 0


def test_pairs_that_are_not_wanted_are_nothing_left(done: Path) -> None:
    folder = RunFolder(load(done).folder)
    folder.part_file("pairs", "all").unlink()
    state = load_state(load(done, ["execution.member_pairs=false"]))
    write_plan_files(folder, state.sweep, state.plan)
    found = run_summary(folder.path)
    assert found == plan_summary(state)
    assert found is not None
    assert found["pairs"] == 0
    assert plan_text(found)[-1].endswith("nothing left to do")
    assert not state.n_missing_pairs


def test_torch_is_not_needed(done: Path) -> None:
    found, heavy = _status_output(load(done).folder)
    assert found["candidates"]["new"] == 0
    assert not heavy


def test_a_run_with_something_left_says_what_the_plan_says(done: Path) -> None:
    sweep = load(done)
    folder = RunFolder(sweep.folder)
    aside = folder.path / "aside"
    for table, part in (("candidates", "last"), ("candidates", "most"), ("members", "all")):
        file = folder.part_file(table, part)
        file.rename(aside)
        found = run_summary(sweep.folder)
        whole = plan_summary(load_state(sweep))
        assert found == whole, (table, part)
        assert found is not None
        counts = found["candidates"]
        assert (counts["new"] + counts["done"] + counts["failed"], found["members"]["new"] > 0) == (
            counts["planned"],
            table == "members",
        )
        aside.rename(file)


def test_what_is_left_is_estimated_without_torch(done: Path) -> None:
    sweep = load(done)
    folder = RunFolder(sweep.folder)
    folder.part_file("candidates", "last").unlink()
    origin = _origin(make_plan(sweep).members[0])
    bare = {key: origin[key] for key in ("dataset", "dataset_settings")}  # a row may lack what is not its key
    folder.append("members", "bare", [bare | {"member_id": "another", "status": "ok"}])
    last = make_plan(sweep).candidates[-1]
    timed = {"candidate_id": "another", "pool_id": last.pool_id, "method": last.method.name, "n_examples": 10}
    timed |= {"merge_seconds": 1.0, "evaluate_seconds": 9.0, "device": "cpu", "status": "ok", "split": "test"}
    folder.append("candidates", "timed", [timed])
    found = _status_output(sweep.folder)
    whole = plan_summary(load_state(sweep))
    assert found == [json.loads(json.dumps(whole)), False]
    workers = whole["estimate"]["workers"]
    examples = len(load_dataset(sweep.populations[0].dataset).splits["test"])
    assert whole["estimate"]["high_seconds"] == whole["estimate"]["low_seconds"] == pytest.approx(examples / workers)


def _status_output(folder: Path) -> list[Any]:
    """What `sweep status --json` says of a run, and whether it imported torch."""
    code = "import sys; from sweep.cli.main import main; main(standalone_mode=False); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "status", str(folder), "--json"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    message, _, heavy = output.rstrip("\n").rpartition("\n")
    return [json.loads(message), heavy == "True"]


def test_another_configuration_or_version_is_left_to_the_plan(done: Path) -> None:
    sweep = load(done)
    folder = RunFolder(sweep.folder)
    file = folder.path / "sweep.yaml"
    whole = file.read_text()
    file.write_text(f"{whole}\n# another plan is to come\n")
    assert read_status(folder) is None
    file.unlink()
    assert read_status(folder) is None
    file.write_text(whole)
    assert read_status(folder) is not None
    plan = pq.read_table(folder.path / "plan.parquet")
    message = json.loads(plan.schema.metadata[OUTLINE])
    for other in (
        b"{}",
        json.dumps(message | {"news": 1}).encode(),
        json.dumps(message | {"versions": [1, 0]}).encode(),
    ):
        metadata = plan.schema.metadata | {OUTLINE: other}
        pq.write_table(plan.replace_schema_metadata(metadata), folder.path / "plan.parquet")
        assert read_status(folder) is None
    assert plan_summary(load_state(sweep))["candidates"]["new"] == 0


def test_a_model_in_several_pools_counts_once(shared: Path) -> None:
    sweep = load(shared)
    state = load_state(sweep)
    found = run_summary(sweep.folder)
    assert found == plan_summary(state)
    assert found is not None
    assert found["members"] == {"planned": 4, "new": 4, "failed": 0}
    assert [member.id for member in state.missing] == [member.id for member in unique_members(state.pools)]
    assert len({member.id for member in state.missing}) == len(state.missing) == 4


def test_a_run_whose_models_are_looked_into_is_left_to_the_plan(done: Path) -> None:
    looking = load(done, ["inspect=[layers]"])
    write_plan_files(RunFolder(looking.folder), looking, make_plan(looking))
    assert read_status(RunFolder(looking.folder)) is None
    assert plan_summary(load_state(looking))["unseen"] > 0


def test_with_nothing_left_nobody_asks_for_facts(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = load_state(load(done))
    monkeypatch.setattr("sweep.status.dataset_info.dataset_info", pytest.fail)
    assert plan_summary(state)["estimate"] is None


def test_runs_on_other_data_beside_it_take_no_torch_either(done: Path) -> None:
    other = load(done, ["name=other", "dataset={synthetic: {examples: 60}}"])
    folder = RunFolder(other.folder)
    plan = make_plan(other)
    folder.create({"schema_version": SCHEMA_VERSION, "sweep": other.name, "created_at": "2025-01-01T00:00:00Z"})
    write_plan_files(folder, other, plan)
    folder.append("members", "all", [{"member_id": each.id, "status": "ok", **_origin(each)} for each in plan.members])
    RunFolder(load(done).folder).part_file("candidates", "last").unlink()
    found, heavy = _status_output(load(done).folder)
    assert found["candidates"]["new"] == 1
    assert not heavy


def test_a_folder_is_named_by_its_last_part(done: Path) -> None:
    folder = load(done).folder
    found, _ = _status_output(folder / "members" / "..")
    assert (found["sweep"], found["folder"]) == (folder.name, str(folder))


def test_candidates_of_earlier_plans_do_not_count(done: Path) -> None:
    smaller = load(done, ["methods=uniform_soup"])
    write_plan_files(RunFolder(smaller.folder), smaller, make_plan(smaller))
    found = run_summary(smaller.folder)
    assert found == plan_summary(load_state(smaller))
    assert found is not None
    assert found["methods"].keys() == {"single", "uniform_soup"}
