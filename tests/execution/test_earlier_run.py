"""A run folder of an earlier version, whose keys have other names now, is read, found complete, and continued."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from sweep.storage.run_folder import RunFolder
from tests.helpers import ROOT
from tests.helpers.analysis_verbs import right
from tests.helpers.command import sweep, weights

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EARLIER = ROOT / "tests/golden/earlier_run"
SWEEP = """
name: earlier
dataset: {digits: {size: 8}}
populations:
  - architecture: {mlp: {hidden: [8]}}
    pools: 2
    members: 3
    train:
      {epochs: 1, start_epochs: 1, batch_size: 128, lr: 0.1, clip_grad_norm: 1.0, checkpoint: best, vmap_members: 3}
subsets: {sizes: [2], pairs: all}
methods: [uniform_soup, greedy_soup, logit_average, {feature_average: {head: [first, average]}}]
alignments: [none, weight_matching]
scalings: [none, {magnify: {factor: 2, members: [all, first]}}]
protocols: [correct, train_mode, {combined: [train_mode, float64]}]
inspect: [layers, templates]
metrics: [accuracy, brier, cross_entropy, ece_mass]
execution: {mlflow: false, block_size: 16, eval_batch_size: 128, straggler_seconds: 30, mlflow_models: 0, workers: 1}
"""
"""`earlier.yaml` with the keys and the names of metrics of today."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with the sweep and a copy of its run."""
    shutil.copytree(EARLIER / "run", tmp_path / "runs/earlier")
    (tmp_path / "earlier.yaml").write_text(SWEEP)
    return tmp_path


def analysis(*arguments: object, cwd: Path) -> str:
    """What a verb of `analysis` prints."""
    with contextlib.chdir(cwd):
        return right(*arguments)


def rows(base: Path, table: str) -> list[str]:
    """The rows of a table, each as JSON, sorted."""
    return sorted(json.dumps(row, default=str) for row in RunFolder(base / "runs/earlier").read(table).to_pylist())


def test_every_reading_verb_works_on_it(base: Path) -> None:
    row = next(
        row for row in RunFolder(base / "runs/earlier").read("candidates").to_pylist() if row["space"] == "weights"
    )
    candidate = row["candidate_id"]
    shown = {verb: json.loads(sweep(*verb, "--json", cwd=base).stdout) for verb in _verbs(candidate)}
    assert "nothing left to do" in sweep("status", "runs/earlier", cwd=base).stdout
    assert shown["status", "runs/earlier"]["candidates"]["new"] == 0
    assert shown["failures", "runs/earlier"] == []
    assert shown["one", "runs/earlier", candidate][0]["accuracy"] == row["accuracy"]
    assert shown["one", "runs/earlier", candidate][0]["ece_mass"] == pytest.approx(row["ece_mass"], rel=1e-6)
    sweep("export", "runs/earlier", candidate, "--to", "merged.safetensors", cwd=base)
    assert (base / "merged.safetensors").stat().st_size > 0
    assert json.loads(analysis("stats", "pool_means", "runs/earlier", "--json", cwd=base))
    assert json.loads(analysis("claims", "runs/earlier", "--json", cwd=base))
    analysis("report", "runs/earlier", "-o", "report.html", cwd=base)
    assert "<html" in (base / "report.html").read_text()


def _verbs(candidate: str) -> list[tuple[str, ...]]:
    """The verbs that print JSON, with their arguments."""
    run = "runs/earlier"
    query = "select count(*) as n from candidates"
    return [("status", run), ("failures", run), ("doctor", run), ("sql", run, query), ("one", run, candidate)]


def test_nothing_is_left_to_do(base: Path) -> None:
    before = {path: path.read_bytes() for path in (base / "runs/earlier/tables").rglob("*.parquet")}
    done = sweep("run", "earlier.yaml", cwd=base)
    assert "Ray" not in done.stderr
    assert done.stdout.strip() == "runs/earlier"
    plan = json.loads(sweep("plan", "earlier.yaml", "--json", cwd=base).stdout)
    assert plan["candidates"]["new"] == plan["members"]["new"] == 0
    assert before == {path: path.read_bytes() for path in (base / "runs/earlier/tables").rglob("*.parquet")}


def test_the_metric_that_has_another_meaning_since_is_not_mixed(base: Path) -> None:
    """The configuration as it was: all metrics, with `ece` among them."""
    (base / "earlier.yaml").write_text(SWEEP.replace("ece_mass", "ece"))
    done = sweep("run", "earlier.yaml", cwd=base, check=False)
    assert done.returncode == 2
    assert "`ece` means something else since, and its rows are read as `ece_mass`" in done.stderr
    assert "`metrics: [accuracy, brier, cross_entropy, ece_mass]` continues it" in done.stderr


def test_larger_subsets_are_added_and_earlier_rows_stay_as_they_are(base: Path) -> None:
    tables = ("candidates", "members", "predictions", "curves", "pairs", "layers", "templates")
    before = {table: rows(base, table) for table in tables}
    trained = weights(base / "runs/earlier")
    done = sweep("run", "earlier.yaml", "subsets.sizes=[2, 3]", cwd=base, ATEN_CPU_CAPABILITY="default")
    change = "this run continues one of 2026-11-29T22:27:09Z with merge-sweep "
    log = (base / "runs/earlier/log.txt").read_text()
    for text in (done.stderr, log):
        (line,) = [line for line in text.splitlines() if change in line]
        assert "instead of 0.1.0+67ada6acfd, " in line
        assert "instruction set DEFAULT instead of AVX2" in line
        assert text.index(change) < text.rindex("candidates done")
    assert "  versions            since " in sweep("status", "runs/earlier", cwd=base).stdout
    after = {table: rows(base, table) for table in tables}
    for table in tables:
        assert set(before[table]) <= set(after[table]), table
    assert len(after["candidates"]) == len(before["candidates"]) + 126
    assert after["members"] == before["members"]
    assert weights(base / "runs/earlier") == trained
    tasks = RunFolder(base / "runs/earlier").read("tasks", ["torch", "device"]).to_pylist()
    assert {row["device"] for row in tasks} == {None, "cpu DEFAULT"}
    assert json.loads(sweep("sql", "runs/earlier", "select count(torch) as n from tasks", "--json", cwd=base).stdout)
    added = set(after["candidates"]) - set(before["candidates"])
    assert {json.loads(row)["status"] for row in added} == {"ok"}
    assert {json.loads(row)["n_members"] for row in added} == {3}
    assert sweep("doctor", "runs/earlier", cwd=base).returncode == 0
