"""MLflow equals the tables: real stores, real models, a real server."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from rows import candidate, curves, members, write
from torch import Tensor, nn

from sweep.server import tracking_uri, ui_command
from sweep.tracking import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = "made"
TIME = datetime(2026, 1, 2, 3, 4, 5)


class Model(nn.Module):
    """A small model whose weights come from the candidate's id."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.hidden, self.drop, self.head = nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 3)
        generator = torch.Generator().manual_seed(sum(key.encode()))
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(torch.relu(self.hidden(images.flatten(1)))))
        return logits


def model_of(key: str) -> tuple[nn.Module, Tensor]:
    return Model(key), torch.zeros(1, 1, 4, 4)


def run_folder(folder: Path, *, accuracies: tuple[float, ...] = (0.9, 0.95, 0.91), **tables: Any) -> Path:
    """Two members of one pool with three epochs, their single rows, and one soup per accuracy."""
    people = members(pools=1, members=2)
    epochs = curves(pools=1, members=2, epochs=3)
    merges = [candidate(0, (i,), "single", accuracy=0.8 + 0.01 * i, candidate_id=f"single-{i}") for i in range(2)]
    for i, accuracy in enumerate(accuracies):
        settings = json.dumps({"weight": i})
        told = {"candidate_id": f"soup-{i}", "accuracy": accuracy, "settings": settings}
        merges.append(candidate(0, (0, 1), "interpolation", **told))
    merges += tables.pop("more", [])
    given = {"members": people, "curves": epochs, "candidates": merges} | tables
    for row in (row for rows in given.values() for row in rows):
        row["created_at"] = row["created_at"] or TIME
    commit = {"invocations": [{"commit": "c0ffee", "code_version": "1+c0ffee"}]}
    return write(folder, given, {"schema_version": 1, "sweep": NAME, **commit})


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data base with MLflow's tables: making them takes seconds."""
    storage = tmp_path_factory.mktemp("template")
    Tracker(f"sqlite:///{storage / 'mlflow.db'}", storage, "template", "template", {}, pytest.fail).open()
    return storage / "mlflow.db"


class Place:
    """A storage with its data base, and what is in it."""

    def __init__(self, storage: Path) -> None:
        self.storage, self.uri, self.lines = storage, f"sqlite:///{storage / 'mlflow.db'}", list[str]()

    def tracker(self, sweep: str = NAME, key: str = "id-of-the-sweep", **parameters: str) -> Tracker:
        return Tracker(self.uri, self.storage, sweep, key, parameters or {"name": sweep}, self.lines.append)

    def mirror(self, folder: Path, *, models: bool = False, best: int = 3) -> None:
        self.tracker().mirror(folder, model_of if models else None, best)
        assert self.lines == []

    @property
    def client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def runs(self, kind: str, sweep: str = NAME) -> list[Run]:
        experiment = self.client.get_experiment_by_name(f"sweep/{sweep}")
        assert experiment is not None
        runs = self.client.search_runs([experiment.experiment_id], f"tags.`ms.kind` = '{kind}'", max_results=1000)
        return sorted(runs, key=lambda run: run.data.tags["ms.key"])

    def values(self) -> dict[str, Any]:
        """Every run with its tags, parameters and whole metric histories, and every version."""
        runs = [run for kind in ("sweep", "member", "cell", "candidate") for run in self.runs(kind)]
        told: dict[str, Any] = {run.info.run_id: (run.data.tags, run.data.params, self.history(run)) for run in runs}
        told |= {v.version: v.source for v in self.client.search_model_versions(f"name = '{NAME}'")}
        return told

    def history(self, run: Run) -> dict[str, list[tuple[int, float, int]]]:
        def steps(name: str) -> list[tuple[int, float, int]]:
            return [(m.step, m.value, m.timestamp) for m in self.client.get_metric_history(run.info.run_id, name)]

        return {name: sorted(steps(name)) for name in run.data.metrics}

    def champion(self, name: str = NAME) -> nn.Module:
        import mlflow
        import mlflow.pytorch

        mlflow.set_tracking_uri(self.uri)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model: nn.Module = mlflow.pytorch.load_model(f"models:/{name}@champion")
        finally:
            mlflow.set_tracking_uri("")
            os.environ.pop("MLFLOW_TRACKING_URI", None)  # set_tracking_uri leaves it behind
        return model


@pytest.fixture
def place(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    storage = tmp_path / "my runs"
    storage.mkdir()
    shutil.copy(template, storage / "mlflow.db")
    return Place(storage)


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


def test_champion_loads_with_its_weights_and_moves(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    images = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    place.mirror(run_folder(place.storage / NAME), models=True, best=2)
    loaded = place.champion()
    assert torch.equal(loaded(images), Model("soup-1").eval()(images))
    assert loaded.state_dict().keys() == Model("soup-1").state_dict().keys()
    place.mirror(run_folder(place.storage / NAME, accuracies=(0.9, 0.5, 0.91)), models=True, best=2)
    assert torch.equal(place.champion()(images), Model("soup-2").eval()(images))
    versions = place.client.search_model_versions(f"name = '{NAME}'")
    assert {v.tags["ms.key"] for v in versions} == {"soup-0", "soup-1", "soup-2"}


def test_best_are_weight_space_merges_that_went_well(place: Place) -> None:
    more = [
        candidate(0, (0, 1), "logit_average", space="logits", accuracy=0.99, candidate_id="logits"),
        candidate(0, (0,), "single", accuracy=0.99, candidate_id="alone"),
        candidate(0, (0, 1), "uniform_soup", accuracy=0.99, status="failed", candidate_id="failed"),
        candidate(0, (0, 1), "uniform_soup", accuracy=0.99, protocol="test_selection", candidate_id="flawed"),
        candidate(0, (0, 1), "uniform_soup", accuracy=0.95, cross_entropy=0.1, candidate_id="sure"),
        candidate(0, (0, 1), "uniform_soup", accuracy=0.95, cross_entropy=0.5, candidate_id="unsure"),
    ]
    place.mirror(run_folder(place.storage / NAME, more=more), best=2)
    assert [run.data.tags["ms.key"] for run in place.runs("candidate")] == ["soup-1", "sure"]


def test_model_that_cannot_be_traced_is_told_and_stops_nothing(place: Place) -> None:
    def broken(key: str) -> tuple[nn.Module, Tensor]:
        if key == "soup-1":
            raise OSError("no weights")
        return model_of(key)

    place.tracker().mirror(run_folder(place.storage / NAME), broken, 2)
    (line,) = place.lines
    assert "soup-1" in line
    assert "no weights" in line
    (version,) = place.client.search_model_versions(f"name = '{NAME}'")
    assert version.tags["ms.key"] == "soup-2"
    assert place.client.get_registered_model(NAME).aliases == {}


def test_odd_names_are_taken(place: Place) -> None:
    odd = 'a\'b "c" 50% ü (x)'
    epochs, people = curves(pools=1, members=1, population=odd), members(pools=1, members=1, population=odd)
    soup = candidate(0, (0, 1), "my_package.my-module:sóup(1)", population=odd, candidate_id="soup", accuracy=0.9)
    folder = write(place.storage / odd, {"members": people, "curves": epochs, "candidates": [soup]}, {})
    parameters = {"methods[0].a@b/../c": "x" * 9000, "d" * 300: "1"}
    tracker = Tracker(place.uri, place.storage, odd, "odd", parameters, place.lines.append)
    tracker.open()
    tracker.mirror(folder, model_of)
    tracker.close("FINISHED")
    assert place.lines == []
    assert [len(place.runs(kind, odd)) for kind in ("sweep", "member", "cell", "candidate")] == [1, 1, 1, 1]
    assert place.runs("cell", odd)[0].data.params["population"] == odd
    assert place.champion("a-b-c-50-x-") is not None


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
    monkeypatch.setattr(sys.modules[__name__], "TIME", TIME - day)
    tracker.mirror(run_folder(place.storage / NAME, accuracies=(0.9, 0.96, 0.91)), None)
    tracker.close("FINISHED")
    runs = [run for kind in ("sweep", "member", "cell", "candidate") for run in place.runs(kind)]
    assert max(run.data.metrics.get("test/accuracy", 0.0) for run in runs) == 0.96
    assert all(run.info.end_time >= run.info.start_time for run in runs)


def test_many_parameters_and_cells_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.tracking.MOST_RUNS", 3)
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


def test_fresh_store_is_made_without_a_word(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from sweep.server import tracking_uri; from sweep.tracking import Tracker\n"
        "s = Path(sys.argv[1]); t = Tracker(tracking_uri(s), s, 'fresh', 'key', {})\n"
        "t.open(); t.progress(1, 0, 1, 1.0); t.mirror(s / 'fresh', None); t.close('FINISHED')"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "new" / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "new" / "runs" / "mlflow.db-wal").exists() or _journal(tmp_path / "new/runs/mlflow.db") == "wal"


def _journal(file: Path) -> str:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(file)) as connection:
        return str(connection.execute("pragma journal_mode").fetchone()[0])


def test_server_that_is_down_is_told_once_and_stops_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    before = dict(os.environ)
    tracker = Tracker("http://me:secret@127.0.0.1:9", tmp_path, NAME, "key", {}, lines.append)
    began = time.monotonic()
    tracker.open()
    tracker.progress(1, 0, 2, 1.0)
    tracker.mirror(run_folder(tmp_path / NAME), model_of)
    tracker.close("FINISHED")
    assert time.monotonic() - began < 10
    (line,) = lines
    assert f"sweep sync {tmp_path / NAME}" in line
    assert "\n" not in line
    assert "secret" not in line
    assert {name: os.environ.get(name) for name in before} == before
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def server(place: Place) -> Iterator[str]:
    """MLflow's own server over the place's data base; another port where one was taken in the meantime."""
    for _ in range(3):
        process, uri = _started(place)
        _wait(partial(_settled, process, uri), 60)
        if _healthy(uri):
            break
        _stop(process)
    else:
        pytest.fail(f"no server: {(place.storage / 'server.log').read_text()[-2000:]}")
    try:
        yield uri
    finally:
        _stop(process)


def _started(place: Place) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", place.uri, "--artifacts-destination", str(place.storage / "artifacts")]
    quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (place.storage / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=place.storage, env=quiet, start_new_session=True
        )
    return process, f"http://127.0.0.1:{port}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(15)


def _healthy(uri: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _settled(process: subprocess.Popen[bytes], uri: str) -> bool:
    return _healthy(uri) or process.poll() is not None


def _wait(ready: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ready() and time.monotonic() < end:
        time.sleep(0.2)


def test_real_server_takes_everything(place: Place, server: str, capfd: pytest.CaptureFixture[str]) -> None:
    place.uri = server
    capfd.readouterr()
    tracker = place.tracker()
    tracker.open()
    tracker.progress(5, 0, 5, 1.0)
    tracker.mirror(run_folder(place.storage / NAME), model_of, 1)
    tracker.close("FINISHED")
    assert place.lines == []
    assert capfd.readouterr() == ("", "")
    assert [len(place.runs(kind)) for kind in ("sweep", "member", "cell", "candidate")] == [1, 2, 4, 1]
    assert place.runs("sweep")[0].info.status == "FINISHED"
    images = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(place.champion()(images), Model("soup-1").eval()(images))


def test_the_questions_that_the_readme_asks_have_the_answers_that_it_says(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    soup = candidate(0, (0, 1), "uniform_soup", accuracy=0.93, candidate_id="soup")
    place.mirror(run_folder(place.storage / NAME, more=[soup]))
    readme = (Path(__file__).parent.parent / "README.md").read_text()
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
