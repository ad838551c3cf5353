"""A sweep in MLflow while it runs, when it is continued or extended, and when the clock is set back."""

from __future__ import annotations

import shutil
import threading
import time
from datetime import timedelta

import pytest

from sweep.tracking.background import BackgroundTracker
from tests.helpers.mlflow import NAME, TIME, Place, run_folder
from tests.helpers.rows import candidate

PAIRS = ((0, 1), (0, 2))
METHODS = ("uniform_soup", "greedy_soup", "fisher")


def test_progress_and_end_of_a_sweep_that_is_continued(place: Place) -> None:
    for status, done in (("KILLED", 3), ("FINISHED", 7)):
        tracker = place.tracker()
        tracker.open()
        assert place.runs("sweep")[0].info.status == "RUNNING"
        tracker.progress(done, 1, 7, 0.5)
        tracker.close(status)  # type: ignore[arg-type]
        assert place.runs("sweep")[0].info.status == status
    (run,) = place.runs("sweep")
    assert [(step, value) for step, value, _ in place.history(run)["progress/candidates_done"]] == [(3, 3), (7, 7)]
    assert run.data.metrics["progress/candidates_failed"] == 1
    assert run.data.metrics["progress/candidates_per_second"] == 0.5


@pytest.mark.parametrize(("done", "total"), [(0, 0), (7, 7), (0, 7)])
def test_progress_that_does_not_change_is_logged_once(place: Place, done: int, total: int) -> None:
    tracker = place.tracker()
    tracker.open()
    for _ in range(5):
        tracker.progress(done, 0, total, 0.5)
    (run,) = place.runs("sweep")
    assert [len(points) for points in place.history(run).values()] == [1, 1, 1, 1]


def test_no_run_ends_before_it_began_though_the_clock_is_set_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = place.tracker()
    real = time.time
    day = timedelta(days=1)
    tracker.open()
    tracker.mirror(run_folder(place.storage / NAME), None)
    monkeypatch.setattr(time, "time", lambda: real() - day.total_seconds())
    monkeypatch.setattr("tests.helpers.mlflow.TIME", TIME - day)
    tracker.mirror(run_folder(place.storage / NAME, accuracies=(0.9, 0.96, 0.91)), None)
    tracker.close("FINISHED")
    runs = [run for kind in ("sweep", "member", "cell", "candidate") for run in place.runs(kind)]
    assert max(run.data.metrics.get("test/accuracy", 0.0) for run in runs) == 0.96
    assert all(run.info.end_time >= run.info.start_time for run in runs)


def test_many_parameters_and_cells_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.tracking.tracker.MAX_RUNS", 3)
    more = [candidate(0, pair, method, candidate_id=f"{method}-{pair}") for pair in PAIRS for method in METHODS]
    parameters = {f"p{i:03}": str(i) for i in range(150)}
    place.tracker(**parameters).mirror(run_folder(place.storage / NAME, more=more), None)
    (line,) = place.lines
    assert "cell" in line
    assert place.runs("cell") == []
    assert len(place.runs("member")) == 2
    assert len(place.runs("sweep")[0].data.params) == 100


def test_extended_sweep_takes_its_members_along(place: Place) -> None:
    folder = run_folder(place.storage / NAME)
    place.mirror(folder)
    place.tracker(key="id-after-an-edit").mirror(folder, None)
    new, _ = place.runs("sweep")
    assert new.data.tags["ms.key"] == "id-after-an-edit"
    assert [run.data.tags["mlflow.parentRunId"] for run in place.runs("member")] == [new.info.run_id] * 2


def test_members_are_written_first_and_complete_later(place: Place) -> None:
    folder = run_folder(place.storage / NAME)
    early_folder = run_folder(place.storage / "early")
    shutil.rmtree(early_folder / "tables" / "candidates")
    tracker = place.tracker()
    tracker.mirror_members(early_folder)
    early = place.runs("member")
    assert [run.info.status for run in early] == ["FINISHED"] * 2
    assert "train/loss" in early[0].data.metrics
    assert "test/accuracy" not in early[0].data.metrics
    assert place.runs("cell") == place.runs("candidate") == []
    tracker.mirror(folder, None)
    late = place.runs("member")
    assert [run.info.run_id for run in late] == [run.info.run_id for run in early]
    assert [run.data.metrics["test/accuracy"] for run in late] == [0.8, 0.81]
    assert place.lines == []


def test_a_background_tracker_writes_the_same_and_does_not_wait(place: Place) -> None:
    tracker = place.tracker()
    folder = run_folder(place.storage / NAME)
    gate = threading.Event()
    tracker.open()
    background = BackgroundTracker(tracker)
    background.submit(gate.wait)
    for done in range(5):
        background.progress(done, 0, 5, 1.0)  # none of them waits
    background.submit(lambda: tracker.mirror(folder, None))
    assert len(place.runs("member")) == 0
    gate.set()
    background.close("FINISHED")
    (run,) = place.runs("sweep")
    assert run.info.status == "FINISHED"
    assert [step for step, _, _ in place.history(run)["progress/candidates_done"]] == [4]
    assert [len(place.runs(kind)) for kind in ("member", "cell", "candidate")] == [2, 1, 3]


def test_an_interrupted_run_does_not_wait_for_a_long_mirror(place: Place) -> None:
    tracker = place.tracker()
    folder = run_folder(place.storage / NAME)
    gate = threading.Event()
    tracker.open()
    background = BackgroundTracker(tracker)
    background.submit(gate.wait)
    background.submit(lambda: tracker.mirror(folder, None))
    threading.Timer(0.5, gate.set).start()
    background.close("KILLED")
    (run,) = place.runs("sweep")
    assert run.info.status == "KILLED"
    assert [len(place.runs(kind)) for kind in ("member", "cell", "candidate")] == [0, 0, 0]
