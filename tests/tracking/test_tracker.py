"""MLflow equals the tables: runs, curves, cells and parameters in a real store."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.tracking.connection import tracking_uri, ui_command
from sweep.tracking.tracker import Tracker
from tests.helpers import ROOT
from tests.helpers.mlflow import FOLDER, NAME, Place, load_model, run_folder
from tests.helpers.rows import candidate, curves, members, write

PAIRS = ((0, 1), (0, 2))


def test_default_place_is_absolute_and_beside_the_run_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking_uri(Path("runs")) == "http://there:5000"


def test_ui_command_serves_this_machine_only() -> None:
    command = ui_command("sqlite:////a b/mlflow.db")
    page = "mlflow ui --backend-store-uri 'sqlite:////a b/mlflow.db' --host 127.0.0.1 --workers 1"
    assert command == f"MLFLOW_DISABLE_TELEMETRY=true {page}"
    assert ui_command("http://there:5000") == "http://there:5000"


def test_importing_costs_no_mlflow() -> None:
    code = "import sys, sweep.tracking; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_runs_are_nested_and_equal_the_tables(place: Place) -> None:
    place.mirror(run_folder(place.storage / NAME))
    (sweep,) = place.runs("sweep")
    assert sweep.data.params == {"name": NAME}
    assert sweep.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert sweep.data.metrics["candidates/count"] == 5
    assert sweep.data.metrics["weights/interpolation/test/accuracy_max"] == 0.95
    files = [file.path for file in place.client.list_artifacts(sweep.info.run_id)]
    assert files == ["cells_of_one_candidate.json", "run.json"]
    assert len(place.runs("member")) == 2
    assert len(place.runs("cell")) == 1
    assert sweep.data.metrics["cells/count"] == 4
    assert sweep.data.metrics["cells/of_one_candidate"] == 3
    assert [run.data.tags["ms.key"] for run in place.runs("candidate")] == ["soup-0", "soup-1", "soup-2"]
    for kind in ("member", "cell", "candidate"):
        for run in place.runs(kind):
            assert run.data.tags["mlflow.parentRunId"] == sweep.info.run_id
            assert run.info.status == "FINISHED"


def test_artifacts_lie_beside_the_run_folders_whatever_the_working_folder(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    place.mirror(run_folder(place.storage / NAME))
    assert list(elsewhere.iterdir()) == []
    assert len(list((place.storage / "mlflow-artifacts").rglob("run.json"))) == 1


def test_member_has_its_curves_by_epoch_and_its_score_alone(place: Place) -> None:
    place.mirror(run_folder(place.storage / NAME))
    run = place.runs("member")[1]
    assert run.data.params["architecture"] == "mlp"
    history = place.history(run)
    assert [(step, value) for step, value, _ in history["train/loss"]] == [(1, 1.2), (2, 0.6), (3, 1.2 / 3)]
    assert [step for step, _, _ in history["validation/accuracy"]] == [1, 2, 3]
    assert set(run.data.metrics) >= {"validation/cross_entropy", "learning_rate", "test/cross_entropy"}
    assert run.data.metrics["test/accuracy"] == 0.81
    assert run.info.end_time - run.info.start_time == 2500


def test_a_failed_member_has_its_error(place: Place) -> None:
    people = members(pools=1, members=2)
    people[0] |= {"status": "failed", "error": "out of memory"}
    place.mirror(run_folder(place.storage / NAME, members=people))
    failed, fine = place.runs("member")
    assert (failed.info.status, failed.data.tags["error"]) == ("FAILED", "out of memory")
    assert (fine.info.status, "error" in fine.data.tags) == ("FINISHED", False)
    place.mirror(run_folder(place.storage / NAME))
    assert [(run.info.status, "error" in run.data.tags) for run in place.runs("member")] == [("FINISHED", False)] * 2


def test_a_cell_summarizes_its_candidates(place: Place) -> None:
    subsets = [(0, 1), (0, 2), (1, 2), (2, 3)]
    more = [
        candidate(0, subset, "uniform_soup", accuracy=accuracy, candidate_id=f"u-{i}")
        for i, (subset, accuracy) in enumerate(zip(subsets, (0.7, 0.8, 0.6, None), strict=True))
    ]
    more[3] |= {"status": "failed", "error": "boom", "cross_entropy": None}
    place.mirror(run_folder(place.storage / NAME, more=more))
    (cell,) = [run for run in place.runs("cell") if run.data.params["method"] == "uniform_soup"]
    wanted = {"count": 4, "failed": 1, "non_finite": 0, "accuracy_mean": 0.7, "accuracy_std": 0.1}
    wanted |= {"accuracy_p50": 0.7, "accuracy_min": 0.6, "accuracy_max": 0.8, "cross_entropy_mean": 0.3}
    assert {name: cell.data.metrics[f"test/{name}"] for name in wanted} == pytest.approx(wanted)


def test_non_finite_values_are_left_out_and_counted(place: Place) -> None:
    epochs = curves(pools=1, members=1, epochs=3)
    epochs[1] |= {"train_loss": math.nan}
    epochs[2] |= {"train_loss": math.inf}
    overflow = {"accuracy": math.nan, "cross_entropy": math.inf, "status": "non_finite"}
    more = [candidate(0, pair, "uniform_soup", candidate_id=f"u-{pair}", **overflow) for pair in ((0, 1), (0, 2))]
    more += [candidate(0, (0, 1), "greedy_soup", candidate_id="alone", **overflow)]
    place.mirror(run_folder(place.storage / NAME, curves=epochs, more=more))
    run = place.runs("member")[0]
    assert [step for step, _, _ in place.history(run)["train/loss"]] == [1]
    assert run.data.tags["ms.non_finite_values"] == "2"
    (cell,) = [run for run in place.runs("cell") if run.data.params["method"] == "uniform_soup"]
    assert cell.data.metrics == {"test/count": 2, "test/failed": 0, "test/non_finite": 2}
    (row,) = [row for row in place.cell_table() if row["method"] == "greedy_soup"]
    assert row["status"] == "non_finite"
    assert math.isnan(row["test/accuracy"])  # null in the file
    assert all(math.isfinite(v) for run in place.runs("sweep") for v in run.data.metrics.values())


def test_second_mirror_changes_nothing(place: Place) -> None:
    folder = run_folder(place.storage / NAME)
    place.mirror(folder, models=True)
    before = place.values()
    place.mirror(folder, models=True)
    assert place.values() == before


def test_new_rows_change_only_their_runs(place: Place) -> None:
    place.mirror(run_folder(place.storage / NAME))
    before = place.values()
    place.mirror(run_folder(place.storage / NAME, accuracies=(0.9, 0.96, 0.91)))
    after = place.values()
    assert after.keys() == before.keys()
    changed = [tags["ms.kind"] for key, (tags, *_) in after.items() if after[key] != before[key]]
    assert sorted(changed) == ["candidate", "sweep"]
    assert [row["test/accuracy"] for row in place.cell_table()] == pytest.approx([0.9, 0.96, 0.91])
    (best,) = [run for run in place.runs("candidate") if run.data.tags["ms.key"] == "soup-1"]
    assert best.data.metrics["test/accuracy"] == 0.96


def test_odd_names_are_accepted(place: Place) -> None:
    odd = 'a\'b "c" 50% ü (x)'
    epochs = curves(pools=1, members=1, population=odd)
    models = members(pools=1, members=1, population=odd)
    method = "my_package.my-module:sóup(1)"
    soups = [candidate(0, pair, method, population=odd, candidate_id=f"soup-{pair}", accuracy=0.9) for pair in PAIRS]
    soups.append(candidate(0, PAIRS[0], "alone", population=odd, candidate_id="alone", accuracy=0.1))
    soups += [soup | {"split": "validation"} for soup in soups]
    folder = write(place.storage / odd, {"members": models, "curves": epochs, "candidates": soups}, {})
    parameters = {"methods[0].a@b/../c": "x" * 9000, "d" * 300: "1"}
    tracker = Tracker(place.uri, place.storage, odd, "odd", parameters, FOLDER)
    tracker.open()
    tracker.mirror(folder, load_model)
    tracker.close("FINISHED")
    assert place.lines == []
    assert [len(place.runs(kind, odd)) for kind in ("sweep", "member", "cell", "candidate")] == [1, 1, 1, 3]
    assert place.runs("cell", odd)[0].data.params["population"] == odd
    assert place.champion(odd) is not None


@pytest.mark.parametrize("name", ["both ' and \"", "a :word", "back\\slash 'n"])
def test_a_working_folder_may_have_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    working = tmp_path / name
    working.mkdir()
    monkeypatch.chdir(working)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    here = Place(working / "runs", [])
    here.uri = tracking_uri(Path("runs"))
    here.mirror(run_folder(here.storage / NAME), models=name.startswith("both"))
    assert [len(here.runs(kind)) for kind in ("sweep", "member", "cell", "candidate")] == [1, 2, 1, 3]
    assert here.client.get_experiment("0").artifact_location == f"{here.storage.as_uri()}/mlflow-artifacts/0"
    assert [each.name for each in working.iterdir()] == ["runs"]


def test_the_queries_of_the_readme_find_what_it_promises(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    scores = {(0, 1): 0.925, (0, 2): 0.935}
    soups = [candidate(0, pair, "uniform_soup", accuracy=x, candidate_id=f"soup {pair}") for pair, x in scores.items()]
    place.mirror(run_folder(place.storage / NAME, more=soups))
    readme = (ROOT / "README.md").read_text()
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", readme, re.S) if "search_runs" in block)
    filters = re.findall(r'filter_string="([^"]+)"', block)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.uri)
    mlflow.set_tracking_uri(place.uri)
    try:
        found = [mlflow.search_runs(search_all_experiments=True, filter_string=text) for text in filters]
        exec(compile(block, "README.md", "exec"), {})
    finally:
        mlflow.set_tracking_uri("")
    members_, cells, best = found
    assert sorted(members_["metrics.test/accuracy"]) == [0.8, 0.81]
    assert "metrics.train/loss" in members_
    assert cells["metrics.test/accuracy_mean"].tolist() == pytest.approx([0.93])
    assert best["metrics.test/accuracy"].max() == 0.95


def test_cells_of_one_candidate_are_rows_of_a_table(place: Place) -> None:
    place.mirror(run_folder(place.storage / NAME))
    rows = place.cell_table()
    assert [row["candidate_id"] for row in rows] == ["soup-0", "soup-1", "soup-2"]
    assert [row["test/accuracy"] for row in rows] == pytest.approx([0.9, 0.95, 0.91])
    assert [row["settings"] for row in rows] == [f'{{"weight": {i}}}' for i in range(3)]
    assert {row["method"] for row in rows} == {"interpolation"}
    place.mirror(run_folder(place.storage / NAME, accuracies=()))
    (run,) = place.runs("sweep")
    assert (run.data.metrics["cells/count"], run.data.metrics["cells/of_one_candidate"]) == (1, 0)
    assert "mlflow.loggedArtifacts" not in run.data.tags


def test_a_table_of_too_many_cells_is_left_out_and_reported(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tracker", "records"):
        monkeypatch.setattr(f"sweep.tracking.{module}.MAX_TABLE_ROWS", 2)
    place.tracker().mirror(run_folder(place.storage / NAME), None)
    assert place.lines == ["MLflow goes without the table of 3 cells of one candidate: more than 2"]
    (run,) = place.runs("sweep")
    assert run.data.metrics["cells/of_one_candidate"] == 3
