"""Whole runs on a real Ray: exactly once, equal bits, resumed after a kill, extended by an edit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sweep.config.loader import load
from sweep.plan.planner import make_plan
from sweep.status.state import write_plan_files
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import read_planned
from tests.helpers.command import MEASURED, SWEEP, rows, sweep, weights
from tests.helpers.small import SMALL

PACE = '''"""A metric that takes its time: the writer flushes every two seconds, and a kill is to find some rows."""

import time

from torch import Tensor


def pace(logits: Tensor) -> float:
    """Zero, after a moment."""
    time.sleep(0.03)
    return 0.0
'''
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run: the folder that holds its file and its storage."""
    base = tmp_path_factory.mktemp("reference")
    (base / "small.yaml").write_text(SMALL)
    sweep("run", "small.yaml", cwd=base)
    return base


def test_a_run_has_every_planned_row_once(reference: Path) -> None:
    plan = json.loads(sweep("plan", "small.yaml", "--json", cwd=reference).stdout)
    found = rows(reference / "runs/small")
    assert len(found) == plan["candidates"]["planned"] == plan["candidates"]["done"]
    assert {row["status"] for row in found.values()} == {"ok"}
    assert plan["candidates"]["new"] == plan["members"]["new"] == 0
    pairs = RunFolder(reference / "runs/small").read("pairs")
    assert len(pairs) == 2 * 3
    assert all(0 < similarity < 1 for similarity in pairs["cka"].to_pylist())
    assert len(RunFolder(reference / "runs/small").read("curves")) == 2 * (1 + 3 * 2)


def test_nothing_left_to_do_starts_no_ray(reference: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (reference / "runs/small").rglob("*.parquet")}
    again = sweep("run", "small.yaml", cwd=reference)
    assert "Ray" not in again.stderr
    assert again.stdout.strip() == "runs/small"
    assert before == {path: path.stat().st_mtime_ns for path in (reference / "runs/small").rglob("*.parquet")}
    assert "ray" not in _modules_of_second_run(reference)


def _modules_of_second_run(reference: Path) -> set[str]:
    """Top-level modules that the command loads when nothing is left to do."""
    call = "main(['run', 'small.yaml'], standalone_mode=False)"
    code = f"import sys; from sweep.cli.main import main; {call}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=reference, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_workers_blocks_and_hash_seeds_change_no_bit(reference: Path, tmp_path: Path) -> None:
    shutil.copy(reference / "small.yaml", tmp_path)
    sweep("run", "small.yaml", "execution.workers=2", "execution.block_size=3", cwd=tmp_path, PYTHONHASHSEED="77")
    assert rows(tmp_path / "runs/small") == rows(reference / "runs/small")
    assert weights(tmp_path / "runs/small") == weights(reference / "runs/small")


@pytest.mark.parametrize(
    ("moment", "how", "code"),
    [("members", signal.SIGKILL, -signal.SIGKILL), ("candidates", signal.SIGINT, 130)],
)
def test_a_run_that_was_stopped_ends_equal_to_an_undisturbed_one(
    reference: Path, tmp_path: Path, moment: str, how: signal.Signals, code: int
) -> None:
    (tmp_path / "pace.py").write_text(PACE)
    metrics = "metrics: [accuracy, brier, cross_entropy, ece, 'pace:pace']\nexecution:"
    (tmp_path / "small.yaml").write_text(SMALL.replace("execution:", metrics))
    path = {"PYTHONPATH": str(tmp_path)}
    command = [*SWEEP, "run", "small.yaml", "execution.block_size=1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, env=os.environ | path) as driver:
        _wait_for(lambda: any((tmp_path / "runs/small/tables" / moment).rglob("*.parquet")), driver)
        driver.send_signal(how)
    assert driver.returncode == code
    done_before = set(rows(tmp_path / "runs/small"))
    assert len(done_before) < len(rows(reference / "runs/small"))
    sweep("run", "small.yaml", cwd=tmp_path, **path)
    assert rows(tmp_path / "runs/small") == rows(reference / "runs/small")
    assert weights(tmp_path / "runs/small") == weights(reference / "runs/small")
    assert sweep("doctor", "runs/small", cwd=tmp_path, **path).returncode == 0


def _wait_for(condition: Callable[[], bool], driver: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert driver.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_an_edit_adds_only_what_is_new(reference: Path, tmp_path: Path) -> None:
    shutil.copytree(reference, tmp_path, dirs_exist_ok=True)
    before = rows(tmp_path / "runs/small")
    parts = {path: path.read_bytes() for path in (tmp_path / "runs/small/tables").rglob("*.parquet")}
    plan = sweep("plan", "small.yaml", "subsets.sizes=[1, 2, 3]", "--json", cwd=tmp_path)
    new = json.loads(plan.stdout)["candidates"]["new"]
    assert new > 0
    sweep("run", "small.yaml", "subsets.sizes=[1, 2, 3]", cwd=tmp_path)
    after = rows(tmp_path / "runs/small")
    assert len(after) == len(before) + new
    assert {key: after[key] for key in before} == before
    assert all(path.read_bytes() == content for path, content in parts.items())


def test_another_split_adds_rows_beside_those_that_are_there(reference: Path, tmp_path: Path) -> None:
    shutil.copytree(reference, tmp_path, dirs_exist_ok=True)
    before = rows(tmp_path / "runs/small")
    sweep("run", "small.yaml", "splits=[test, validation]", "execution.probabilities=true", cwd=tmp_path)
    after = rows(tmp_path / "runs/small")
    assert len(after) == 2 * len(before)
    assert {key: after[key] for key in before} == before
    output = RunFolder(tmp_path / "runs/small").read("predictions").to_pylist()
    assert {(row["split"], row["log_probabilities"] is None) for row in output} == {
        ("test", True),
        ("validation", False),
    }
    assert all(
        len(row["log_probabilities"]) == 2 * 10 * row["n_examples"] for row in output if row["log_probabilities"]
    )


def test_a_plan_that_shrank_and_grew_again_is_finished(reference: Path, tmp_path: Path) -> None:
    """Blocks keep their candidates, so a part of one may be done by a smaller plan."""
    shutil.copy(reference / "small.yaml", tmp_path)
    whole = load(tmp_path / "small.yaml", [f"execution.storage={tmp_path}/runs"])
    folder = RunFolder(tmp_path / "runs/small")
    folder.create({"schema_version": 1, "sweep": "small", "invocations": []})
    write_plan_files(folder, whole, make_plan(whole))
    sweep("run", "small.yaml", "subsets.pairs=0", "subsets.sizes=[2]", "subsets.per_size=1", cwd=tmp_path)
    assert 0 < len(rows(folder.path)) < len(rows(reference / "runs/small"))
    sweep("run", "small.yaml", cwd=tmp_path)
    assert rows(folder.path) == rows(reference / "runs/small")
    assert len(read_planned(folder.path, "candidates")) == len(rows(folder.path))


def test_what_is_no_longer_planned_is_kept_and_not_shown(reference: Path, tmp_path: Path) -> None:
    shutil.copytree(reference, tmp_path, dirs_exist_ok=True)
    before = rows(tmp_path / "runs/small")
    done = sweep("run", "small.yaml", "subsets.sizes=[2]", cwd=tmp_path)
    assert "Ray" not in done.stderr, "there is nothing to compute"
    assert rows(tmp_path / "runs/small") == before
    shown = read_planned(tmp_path / "runs/small", "candidates", ["n_members"])["n_members"].to_pylist()
    assert set(shown) == {1, 2}
    assert len(shown) < len(before)
    assert read_planned(tmp_path / "runs/small", "members").num_rows == 2 * 4


def test_what_failed_is_done_anew_with_its_predictions(reference: Path, tmp_path: Path) -> None:
    """A member whose weights are gone is trained again; the same command alone says what is wrong."""
    shutil.copytree(reference, tmp_path, dirs_exist_ok=True)
    folder = RunFolder(tmp_path / "runs/small")
    next((folder.path / "members").glob("*.safetensors")).unlink()
    part = next(iter((folder.path / "tables/candidates/parts").iterdir())).stem
    shutil.move(folder.part_file("candidates", part), tmp_path / "aside.parquet")
    missing = pq.read_table(tmp_path / "aside.parquet").to_pylist()
    folder.append("candidates", part, [row | {"status": "failed", "error": "spoilt"} for row in missing])
    message = sweep("run", "small.yaml", "subsets.sizes=[1, 2, 3]", cwd=tmp_path, check=False)
    assert message.returncode == 2
    assert "cannot read the weights" in message.stderr
    assert "--retry" in message.stderr
    sweep("run", "small.yaml", "--retry", cwd=tmp_path)
    assert rows(folder.path) == rows(reference / "runs/small")
    assert weights(folder.path) == weights(reference / "runs/small")
    assert len(folder.read("predictions")) == len(folder.read("candidates"))
    assert sweep("doctor", "runs/small", cwd=tmp_path).returncode == 0


def test_a_training_that_diverges_is_a_row_and_the_others_go_on(reference: Path, tmp_path: Path) -> None:
    diverging = "{architecture: linear, start: scratch, members: 2, train: {lr: 1.0e+6, weight_decay: 1.0e+3}}"
    text = SMALL.replace("populations:", f"populations:\n  - {diverging}")
    (tmp_path / "small.yaml").write_text(text.replace("sizes: [2, 3]", "sizes: [2]"))
    done = sweep("run", "small.yaml", cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stderr
    members = RunFolder(tmp_path / "runs/small").read("members").to_pylist()
    missing = [row for row in members if row["architecture"] == "linear"]
    assert {row["status"] for row in missing} == {"failed"}
    assert all("non-finite loss in epoch 1" in row["error"] for row in missing)
    assert {row["status"] for row in members if row["architecture"] == "mlp"} == {"ok"}
    found = RunFolder(tmp_path / "runs/small").read("candidates").to_pylist()
    assert {row["status"] for row in found if row["architecture"] == "mlp"} == {"ok"}
    assert all(
        row["status"] == "failed" and "member 0" in row["error"]
        for row in found
        if row["member_indices"] == [0, 1] and row["architecture"] == "linear"
    )
    assert "non-finite loss" in sweep("failures", "runs/small", cwd=tmp_path).stdout
    same = rows(reference / "runs/small")
    assert {key: row for key, row in rows(tmp_path / "runs/small").items() if key in same} == {
        key: same[key] for key in rows(tmp_path / "runs/small") if key in same
    }


def test_one_candidate_here_equals_its_row(reference: Path) -> None:
    table = RunFolder(reference / "runs/small").read("candidates").to_pylist()
    for method in ("greedy_soup", "feature_average"):
        chosen = next(row for row in table if row["method"] == method)
        here = json.loads(sweep("one", "runs/small", chosen["candidate_id"], "--json", cwd=reference).stdout)[0]
        assert {key: here.get(key) for key in MEASURED} == {key: chosen[key] for key in MEASURED}


def test_other_metrics_in_one_run_folder_are_refused(reference: Path) -> None:
    done = sweep("run", "small.yaml", "metrics=accuracy", "subsets.sizes=[1]", cwd=reference, check=False)
    assert done.returncode == 2
    assert "holds rows with the metrics" in done.stderr
