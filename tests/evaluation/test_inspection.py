"""Which models are looked into: planned, skipped, resumed, and a real run that does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sweep.cli.main import main
from sweep.config.document import ConfigError, parse
from sweep.config.loader import check, load
from sweep.plan.planner import Plan, make_plan
from sweep.plan.work import inspected_models
from sweep.status.pending import inspection_blocks
from sweep.status.state import load_state
from sweep.storage.run_folder import RunFolder
from tests.helpers import ROOT
from tests.helpers.command import sweep

TEXT = """
name: inside
dataset: {digits: {size: 8}}
populations:
  - {name: plain, architecture: linear, start: scratch, members: 3, train: {epochs: 3, weight_decay: 0.1}}
  - {name: control, architecture: linear, start: scratch, members: 3, train: {epochs: 3, shuffle_labels: true}}
subsets: {prefixes: [2, 3]}
methods: [uniform_soup, logit_average, published_mixup, {plane: {a: 1}}]
scalings: [none, {magnify: {factor: 2}}]
inspect: [layers, templates]
execution: {mlflow: false}
"""
MODELS = 2 * (3 + 2 + 3)
"""Members, soups of two and three, and mixed templates of each member; nothing scaled, no ensemble, no plane."""


def plan_of(text: str = TEXT) -> Plan:
    return make_plan(check(parse(text, "test")))


def written(folder: Path, plan: Plan, table: str, *places: int) -> RunFolder:
    """A run folder where some models of a plan, by their positions, have a row."""
    run = RunFolder(folder)
    models = list(inspected_models(plan))
    run.create({})
    run.append(table, "part", [{"model_id": models[place].id} for place in places])
    return run


def todo(blocks: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {model.id: tables for block in blocks.values() for model, tables in block.items}


def test_members_and_plain_soups_are_looked_into() -> None:
    plan = plan_of()
    models = list(inspected_models(plan))
    kinds = [
        (len(m.subset), m.merge.method.name if m.merge else "single") for m in models if m.pool_id == models[0].pool_id
    ]
    assert sorted(kinds) == sorted(
        [(1, "single")] * 3 + [(2, "uniform_soup"), (3, "uniform_soup")] + [(1, "published_mixup")] * 3
    )
    assert len(models) == len({model.id for model in models}) == MODELS


def test_what_has_rows_is_not_looked_into_again(tmp_path: Path) -> None:
    plan = plan_of()
    models = list(inspected_models(plan))
    found = todo(inspection_blocks(plan, written(tmp_path, plan, "layers", 0, 3), (), ()))
    assert found[models[0].id] == found[models[3].id] == ("templates",)
    assert len(found) == MODELS
    assert {tables for identity, tables in found.items() if identity not in (models[0].id, models[3].id)} == {
        ("layers", "templates")
    }


def test_what_cannot_be_made_is_left_alone(tmp_path: Path) -> None:
    plan = plan_of()
    folder = written(tmp_path, plan, "layers")
    pool = plan.pools[0]
    failed = pool.members[1]
    found = todo(inspection_blocks(plan, folder, {failed.id}, ()))
    assert len(found) == MODELS - 4  # the member, both soups with it, and its mixed templates
    soup = next(model for model in inspected_models(plan) if model.merge)
    assert soup.id not in todo(inspection_blocks(plan, folder, (), {soup.id}))


def test_blocks_are_small_and_of_one_pool(tmp_path: Path) -> None:
    plan = plan_of(TEXT.replace("members: 3", "members: 12"))
    for block in inspection_blocks(plan, written(tmp_path, plan, "layers"), (), ()).values():
        assert len(block) <= 8
        assert len({model.pool_id for model, _ in block.items}) == 1


def test_nothing_is_looked_into_unless_it_is_asked(tmp_path: Path) -> None:
    silent = TEXT.replace("inspect: [layers, templates]\n", "")
    plan = plan_of(silent)
    assert inspection_blocks(plan, written(tmp_path, plan, "layers"), (), ()) == {}
    assert "inspect" not in plan.sweep.to_config
    assert plan.sweep.id != plan_of().sweep.id
    assert [candidate.id for candidate in plan.candidates] == [candidate.id for candidate in plan_of().candidates]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[]", "`inspect`: expected one or more values without repetition"),
        ("[layers, layers]", "`inspect`: expected one or more values without repetition"),
        ("[layer]", "`inspect[0]`: expected `layers` or `templates`, got 'layer'"),
        ("true", "`inspect`: expected a list"),
    ],
)
def test_a_wrong_table_is_reported_with_its_place(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match="inspect") as raised:
        plan_of(TEXT.replace("[layers, templates]", value))
    assert message in str(raised.value)
    assert str(raised.value).startswith("test:10:")


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_looks_into_models_and_its_resume_into_what_lacks_rows(tmp_path: Path) -> None:
    file = tmp_path / "inside.yaml"
    run = RunFolder(tmp_path / "runs/inside")
    file.write_text(TEXT.replace("[layers, templates]", "[layers]"))
    sweep("run", "inside.yaml", cwd=tmp_path)
    rows = run.read("layers", ["model_id", "tensor"]).to_pylist()
    assert len(rows) == len({(row["model_id"], row["tensor"]) for row in rows}) == 2 * MODELS
    assert len(run.read("templates")) == 0
    removed, *kept = sorted((run.path / "tables/layers/parts").glob("*.parquet"))
    removed.unlink()
    before = {path: path.stat().st_mtime_ns for path in [*kept, *(run.path / "tables/candidates").rglob("*.parquet")]}
    file.write_text(TEXT)
    assert load_state(load(file, [f"execution.storage={tmp_path / 'runs'}"])).n_uninspected == MODELS
    stderr = sweep("run", "inside.yaml", cwd=tmp_path).stderr
    assert f"0 members to train, 0 candidates to evaluate, {MODELS} models to inspect" in stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}
    again = run.read("layers", ["model_id", "tensor"]).to_pylist()
    assert {tuple(row.values()) for row in again} == {tuple(row.values()) for row in rows}
    assert len(again) == len(rows)
    assert len(run.read("templates")) == MODELS * 100
    control = run.read("templates", ["population", "labels"]).group_by(["population", "labels"]).aggregate([])
    assert set(map(tuple, (row.values() for row in control.to_pylist()))) == {
        ("plain", "true"),
        ("control", "shuffled"),
    }
    single = [
        row for row in run.read("candidates").to_pylist() if row["method"] == "single" and row["scaling"] == "none"
    ]
    assert all((row["accuracy"] > 0.8) == (row["population"] == "plain") for row in single)
    assert "Ray" not in sweep("run", "inside.yaml", cwd=tmp_path).stderr
    assert sweep("doctor", "runs/inside", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("name", "members", "candidates", "parameters"),
    [
        ("patterns", 18 * 4 * 3, 18 * 4 * (3 + 3 + 2), 650),
        ("patterns_cifar100", 12 * 3 * 2, 12 * 3 * (2 + 2 + 2), 307_300),
        ("patterns_tiny_imagenet", 9 * 3 * 2, 9 * 3 * (2 + 2), 2_457_800),
        ("inside", 4 * 4 * 5 + 2 * 4, 4 * 4 * (17 * 17 + 2 * (5 + 2 * 4)), None),
    ],
)
def test_the_sweeps_inside_weights_are_planned_without_data(
    name: str, members: int, candidates: int, parameters: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["plan", str(ROOT / f"configs/{name}.yaml"), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["members"]["planned"], found["candidates"]["planned"]) == (members, candidates)
    if parameters:
        assert {network["parameters"] for network in found["networks"].values()} == {parameters}
