"""Renamed keys: each is one located error whose hint is the new key, and older run folders are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sweep.config.document import ConfigError
from sweep.config.loader import load
from sweep.plan.planner import make_plan
from tests.helpers import ROOT
from tests.helpers.texts import checked, text

EARLIER = ROOT / "tests/golden/earlier_run"
EXECUTION = {
    "patience": "straggler_seconds",
    "batch": "eval_batch_size",
    "block": "block_size",
    "pool_bytes": "mmap_bytes",
    "best": "mlflow_models",
    "address": "ray_address",
}
TRAIN = {"keep": "checkpoint", "clip": "clip_grad_norm", "together": "vmap_members"}
SWITCHES = "[train_mode, float64]"
WRITTEN = [
    (text("inside: layers"), "f.yaml:5:1", "inside", "inspect"),
    (text("own_heads: true"), "f.yaml:5:1", "own_heads", "new_heads"),
    (text(population="architecture: mlp, own_heads: true"), "f.yaml:3:25", "populations[0].own_heads", "new_heads"),
    *[(text(f"execution: {{{old}: 1}}"), "f.yaml:5:13", f"execution.{old}", new) for old, new in EXECUTION.items()],
    *[
        (text(population=f"architecture: mlp, train: {{{old}: 1}}"), "f.yaml:3:33", f"populations[0].train.{old}", new)
        for old, new in TRAIN.items()
    ],
    (text(f"protocols: {{together: {SWITCHES}}}"), "f.yaml:5:13", "protocols.together", "combined"),
    (text(f"protocols: [correct, {{together: {SWITCHES}}}]"), "f.yaml:5:23", "protocols[1].together", "combined"),
    (
        text(f"grids: [{{protocols: [correct, {{together: {SWITCHES}}}]}}]"),
        "f.yaml:5:32",
        "grids[0].protocols[1].together",
        "combined",
    ),
    (
        text(f"grids: [{{}}, {{protocols: {{together: {SWITCHES}}}}}]"),
        "f.yaml:5:26",
        "grids[1].protocols.together",
        "combined",
    ),
]
OVERRIDES = [
    ("inside=layers", "inside", "inspect"),
    ("own_heads=true", "own_heads", "new_heads"),
    ("populations.0.own_heads=true", "populations[0].own_heads", "new_heads"),
    *[(f"execution.{old}=4", f"execution.{old}", new) for old, new in EXECUTION.items()],
    *[(f"train.{old}=best", f"populations[0].train.{old}", new) for old, new in TRAIN.items()],
    *[(f"populations.0.train.{old}=1", f"populations[0].train.{old}", new) for old, new in TRAIN.items()],
    (f"protocols=[correct, {{together: {SWITCHES}}}]", "protocols[1].together", "combined"),
]


def issues(written: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        checked(written, *overrides)
    return str(raised.value)


def expected(location: str, path: str, new: str, also: str = "") -> str:
    old = path.rpartition(".")[2]
    return f"{location}: `{path}`: `{old}` was renamed to `{new}`\n  hint: write {new}: …{also}"


@pytest.mark.parametrize(("written", "location", "path", "new"), WRITTEN, ids=[each[2] for each in WRITTEN])
def test_an_earlier_key_is_one_error_that_names_the_new_key(written: str, location: str, path: str, new: str) -> None:
    assert issues(written) == expected(location, path, new)


@pytest.mark.parametrize(("assignment", "path", "new"), OVERRIDES, ids=[each[0] for each in OVERRIDES])
def test_an_earlier_key_in_an_override_is_one_error(assignment: str, path: str, new: str) -> None:
    assert issues(text(), assignment) == expected(f"override {assignment}", path, new)


def test_an_override_reaches_every_population_under_its_earlier_name_too() -> None:
    two = text(population="architecture: mlp}\n  - {architecture: cnn")
    where = "override train.keep=best"
    each = [expected(where, f"populations[{index}].train.keep", "checkpoint") for index in range(2)]
    assert issues(two, "train.keep=best") == "\n".join(each)


def test_all_earlier_keys_of_a_file_are_found_at_once() -> None:
    found = issues((EARLIER / "earlier.yaml").read_text())
    names = ("inside", "clip", "keep", "together", "block", "batch", "patience", "best")
    assert [found.count(f"`{name}` was renamed to") for name in names] == [1, 1, 1, 2, 1, 1, 1, 1]
    assert found.count("hint: write ") == 9


def test_a_key_under_both_names_is_refused_with_a_note() -> None:
    both = text("execution: {block: 3, block_size: 4}")
    note = " (`block_size` is set, too)"
    assert issues(both) == expected("f.yaml:5:13", "execution.block", "block_size", note)


def test_names_that_were_keys_elsewhere_are_no_earlier_keys() -> None:
    assert "`block`: unknown key" in issues(text("block: 3"))
    assert "`populations[0].keep`: unknown key" in issues(text(population="architecture: mlp, keep: best"))
    assert "`execution.clip`: unknown key" in issues(text("execution: {clip: 1}"))


def test_a_run_folder_with_earlier_keys_means_the_ids_of_its_tables() -> None:
    run = EARLIER / "run"
    sweep = load(run / "sweep.yaml", accept_renamed=True)
    plan = make_plan(sweep)
    assert sorted(candidate.id for candidate in plan.candidates) == ids(run, "candidates", "candidate_id")
    assert sorted(member.id for member in (*plan.members, *plan.starts)) == ids(run, "members", "member_id")
    recipe = sweep.populations[0].recipe
    assert (recipe.checkpoint, recipe.clip_grad_norm, recipe.vmap_members) == ("best", 1.0, 3)
    execution = sweep.execution
    assert (execution.block_size, execution.eval_batch_size, execution.mlflow_models) == (16, 128, 0)


def test_a_measured_batch_of_an_earlier_run_is_read(tmp_path: Path) -> None:
    written = (EARLIER / "run/sweep.yaml").read_text().replace("  batch: 128\n", "  batch: measured\n")
    assert "batch: measured" in written
    (tmp_path / "sweep.yaml").write_text(written)
    assert load(tmp_path / "sweep.yaml", accept_renamed=True).execution.eval_batch_size == "auto"


def test_a_run_folder_is_read_by_request_only() -> None:
    with pytest.raises(ConfigError, match="`inside` was renamed to `inspect`"):
        load(EARLIER / "run/sweep.yaml")


def ids(run: Path, table: str, column: str) -> list[str]:
    (file,) = (run / "tables" / table).rglob("*.parquet")
    return sorted(pq.read_table(file, columns=[column])[column].to_pylist())
