"""MLflow equals the tables: runs, curves, cells and parameters in real stores."""

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
from tests.helpers.mlflow import NAME, Place, model_of, run_folder
from tests.helpers.rows import candidate, curves, members, write


def test_default_place_is_absolute_and_beside_the_run_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking_uri(Path("runs")) == "http://there:5000"


def test_page_is_opened_on_this_machine_only() -> None:
    command = ui_command("sqlite:////a b/mlflow.db")
    page = "mlflow ui --backend-store-uri 'sqlite:////a b/mlflow.db' --host 127.0.0.1 --workers 1"
    assert command == f"MLFLOW_DISABLE_TELEMETRY=true {page}"
    assert ui_command("http://there:5000") == "http://there:5000"


def test_importing_costs_no_mlflow() -> None:
    code = "import sys, sweep.tracking; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_runs_are_nested_and_say_what_the_tables_say(place: Place) -> None:
    place.mirror(run_folder(place.storage / NAME))
    (sweep,) = place.runs("sweep")
    assert sweep.data.params == {"name": NAME}
    assert sweep.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert sweep.data.metrics["candidates/count"] == 5
    assert sweep.data.metrics["weights/interpolation/test/accuracy_max"] == 0.95
    assert [file.path for file in place.client.list_artifacts(sweep.info.run_id)] == ["run.json"]
    assert len(place.runs("member")) == 2
    assert len(place.runs("cell")) == 4
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


def test_failed_member_says_why(place: Place) -> None:
    people = members(pools=1, members=2)
    people[0] |= {"status": "failed", "error": "out of memory"}
    place.mirror(run_folder(place.storage / NAME, members=people))
    failed, fine = place.runs("member")
    assert (failed.info.status, failed.data.tags["error"]) == ("FAILED", "out of memory")
    assert (fine.info.status, "error" in fine.data.tags) == ("FINISHED", False)
    place.mirror(run_folder(place.storage / NAME))
    assert [(run.info.status, "error" in run.data.tags) for run in place.runs("member")] == [("FINISHED", False)] * 2


def test_cell_sums_up_its_candidates(place: Place) -> None:
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


def test_what_is_not_finite_is_left_out_and_counted(place: Place) -> None:
    epochs = curves(pools=1, members=1, epochs=3)
    epochs[1] |= {"train_loss": math.nan}
    epochs[2] |= {"train_loss": math.inf}
    lost = {"accuracy": math.nan, "cross_entropy": math.inf, "status": "non_finite"}
    more = [candidate(0, (0, 1), "uniform_soup", candidate_id="lost", **lost)]
    place.mirror(run_folder(place.storage / NAME, curves=epochs, more=more))
    run = place.runs("member")[0]
    assert [step for step, _, _ in place.history(run)["train/loss"]] == [1]
    assert run.data.tags["ms.non_finite_values"] == "2"
    (cell,) = [run for run in place.runs("cell") if run.data.params["method"] == "uniform_soup"]
    assert cell.data.metrics == {"test/count": 1, "test/failed": 0, "test/non_finite": 1}
    assert all(math.isfinite(v) for run in place.runs("sweep") for v in run.data.metrics.values())


def test_second_mirror_changes_nothing(place: Place) -> None:
    folder = run_folder(place.storage / NAME)
    place.mirror(folder, models=True)
    before = place.values()
    place.mirror(folder, models=True)
    assert place.values() == before


def test_new_rows_change_only_what_they_touch(place: Place) -> None:
    place.mirror(run_folder(place.storage / NAME))
    before = place.values()
    place.mirror(run_folder(place.storage / NAME, accuracies=(0.9, 0.96, 0.91)))
    after = place.values()
    assert after.keys() == before.keys()
    changed = [tags["ms.kind"] for key, (tags, *_) in after.items() if after[key] != before[key]]
    assert sorted(changed) == ["candidate", "cell", "sweep"]
    (best,) = [run for run in place.runs("candidate") if run.data.tags["ms.key"] == "soup-1"]
    assert best.data.metrics["test/accuracy"] == 0.96


def test_odd_names_are_taken(place: Place) -> None:
    odd = 'a\'b "c" 50% ü (x)'
    epochs, people = curves(pools=1, members=1, population=odd), members(pools=1, members=1, population=odd)
    soup = candidate(0, (0, 1), "my_package.my-module:sóup(1)", population=odd, candidate_id="soup", accuracy=0.9)
    folder = write(place.storage / odd, {"members": people, "curves": epochs, "candidates": [soup]}, {})
    parameters = {"methods[0].a@b/../c": "x" * 9000, "d" * 300: "1"}
    tracker = Tracker(place.uri, place.storage, odd, "odd", parameters)
    tracker.open()
    tracker.mirror(folder, model_of)
    tracker.close("FINISHED")
    assert place.lines == []
    assert [len(place.runs(kind, odd)) for kind in ("sweep", "member", "cell", "candidate")] == [1, 1, 1, 1]
    assert place.runs("cell", odd)[0].data.params["population"] == odd
    assert place.champion("a-b-c-50-x-") is not None


def test_the_questions_that_the_readme_asks_have_the_answers_that_it_says(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    soup = candidate(0, (0, 1), "uniform_soup", accuracy=0.93, candidate_id="soup")
    place.mirror(run_folder(place.storage / NAME, more=[soup]))
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
    assert cells["metrics.test/accuracy_mean"].tolist() == [0.93]
    assert best["metrics.test/accuracy"].max() == 0.95
