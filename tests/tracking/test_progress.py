"""A sweep in MLflow while it goes on, is continued, is extended, or has the clock set back."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from tests.helpers.mlflow import NAME, TIME, Place, run_folder


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
def test_progress_that_is_none_is_told_once(place: Place, done: int, total: int) -> None:
    tracker = place.tracker()
    tracker.open()
    for _ in range(5):
        tracker.progress(done, 0, total, 0.5)
    (run,) = place.runs("sweep")
    assert [len(points) for points in place.history(run).values()] == [1, 1, 1, 1]


def test_no_run_ends_before_it_began_though_the_clock_is_set_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, real, day = place.tracker(), time.time, timedelta(days=1)
    tracker.open()
    tracker.mirror(run_folder(place.storage / NAME), None)
    monkeypatch.setattr(time, "time", lambda: real() - day.total_seconds())
    monkeypatch.setattr("tracked.TIME", TIME - day)
    tracker.mirror(run_folder(place.storage / NAME, accuracies=(0.9, 0.96, 0.91)), None)
    tracker.close("FINISHED")
    runs = [run for kind in ("sweep", "member", "cell", "candidate") for run in place.runs(kind)]
    assert max(run.data.metrics.get("test/accuracy", 0.0) for run in runs) == 0.96
    assert all(run.info.end_time >= run.info.start_time for run in runs)


def test_many_parameters_and_cells_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.tracking.tracker.MOST_RUNS", 3)
    parameters = {f"p{i:03}": str(i) for i in range(150)}
    place.tracker(**parameters).mirror(run_folder(place.storage / NAME), None)
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
