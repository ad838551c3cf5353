"""Switches of the training: members that are trained otherwise, with the seeds and candidates of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.config.document import Document
from sweep.config.loader import check
from sweep.config.recipe import Recipe
from sweep.core.registry import get_plugin
from sweep.plan.planner import make_plan
from sweep.training.trainer import learning_rate
from tests.helpers.audits import OF_RECIPES, swept

AUGMENTED = {"architecture": "linear", "members": 3, "pools": 2, "train": {"crop": 1, "mixup": 0.2, "lr": 0.01}}
PLAIN = {"architecture": {"mlp": {"hidden": [8]}}, "members": 3, "pools": 2}
RETRAINED = "linear-digits-shared (shared_transform)"


def test_every_switch_of_the_training_is_tried() -> None:
    assert {"shared_transform", "published_warmup"} == OF_RECIPES


def test_members_that_are_trained_otherwise_keep_their_seeds() -> None:
    alone = make_plan(swept(AUGMENTED, "correct"))
    plan = make_plan(swept(AUGMENTED, ["correct", "shared_transform", "published_warmup"]))
    assert [pool.id for pool in plan.pools][:2] == [pool.id for pool in alone.pools]
    correct = plan.pools[:2]
    other = plan.pools[2:4]
    assert {pool.population.name for pool in other} == {RETRAINED}
    for mine, its in zip(correct, other, strict=True):
        trained_so = [[*([pool.start] if pool.start else []), *pool.members] for pool in (mine, its)]
        assert [(m.init_seed, m.order_seed) for m in trained_so[0]] == [
            (m.init_seed, m.order_seed) for m in trained_so[1]
        ]
        assert not {m.id for m in trained_so[0]} & {m.id for m in trained_so[1]}
        assert its.population.recipe == mine.population.recipe.model_copy(update={"crop": 0, "mixup": 0.0})
    assert len({member.id for member in plan.members}) == len(plan.members) == 18


def test_what_is_trained_otherwise_has_every_candidate_under_its_protocol_alone() -> None:
    written = ["correct", "train_mode", "shared_transform", {"combined": ["shared_transform", "greedy_variant"]}]
    plan = make_plan(swept(AUGMENTED, written))
    alone = make_plan(swept(AUGMENTED, ["correct", "train_mode"]))
    assert {c.id for c in alone.candidates} == {
        c.id for c in plan.candidates if plan.pool_of[c.pool_id].population.name != RETRAINED
    }
    own = [c for c in plan.candidates if plan.pool_of[c.pool_id].population.name == RETRAINED]
    counts = {name: sum(c.protocol.name == name for c in own) for name in {c.protocol.name for c in own}}
    correct = sum(c.protocol.name == "correct" for c in plan.candidates)
    assert counts == {"shared_transform": correct, "greedy_variant+shared_transform": correct}


def test_a_training_that_a_switch_leaves_as_it_is_makes_no_population() -> None:
    assert len(make_plan(swept(PLAIN, ["correct", "shared_transform"])).pools) == 2
    plan = make_plan(swept(PLAIN, ["correct", {"combined": ["shared_transform", "train_mode"]}]))
    assert len(plan.pools) == 2
    assert {each.protocol.name for each in plan.candidates} == {"correct", "shared_transform+train_mode"}
    both = ["correct", "published_warmup", {"combined": ["shared_transform", "published_warmup"]}]
    names_of = {pool.population.name for pool in make_plan(swept(PLAIN, both)).pools}
    assert names_of == {"mlp-digits-shared", "mlp-digits-shared (published_warmup)"}


def test_a_sweep_that_trains_otherwise_is_written_so_that_it_loads_again() -> None:
    sweep = swept(AUGMENTED, ["correct", {"combined": ["shared_transform", "published_warmup"]}])
    again = check(Document("f.yaml", sweep.to_config))
    assert again.to_config == sweep.to_config
    assert [population.name for population in sweep.populations] == [
        "linear-digits-shared",
        "linear-digits-shared (published_warmup+shared_transform)",
    ]
    assert [c.id for c in make_plan(again).candidates] == [c.id for c in make_plan(sweep).candidates]


def test_the_published_warmup_ends_at_twice_the_rate_and_stays_there() -> None:
    recipe = Recipe(lr=0.01, epochs=60, schedule="multistep", milestones=(20, 40), gamma=0.2, warmup=1)
    other = Recipe(**get_plugin("protocols", "published_warmup").function(recipe.model_dump()))
    expected = {0.5: 0.005, 1.0: 0.01, 1.5: 0.015, 2.0: 0.02, 19.9: 0.02, 20.5: 0.004, 59.0: 0.0008}
    for progress, rate in expected.items():
        assert learning_rate(other, progress, 60) == pytest.approx(rate)
    short = Recipe(**get_plugin("protocols", "published_warmup").function(Recipe(epochs=1).model_dump()))
    assert short.warmup == 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_real_run_holds_every_protocol(tmp_path: Path) -> None:
    from sweep.execution.driver import run
    from sweep.storage.run_folder import RunFolder

    population = AUGMENTED | {"pools": 1, "train": {"crop": 1, "epochs": 1}}
    execution = {"storage": str(tmp_path), "mlflow": False, "workers": 1}
    protocols = ["correct", "train_mode", "shared_transform"]
    sweep = swept(population, protocols, ["uniform_soup", "logit_average"], execution=execution)
    state = run(sweep)
    rows = RunFolder(sweep.folder).read("candidates").to_pylist()
    assert {(row["population"], row["protocol"], row["status"]) for row in rows} == {
        ("linear-digits-shared", "correct", "ok"),
        ("linear-digits-shared", "train_mode", "ok"),
        (RETRAINED, "shared_transform", "ok"),
    }
    assert len(rows) == len(state.plan.candidates) == 3 * (3 + 2 * 4)
    accuracy = {
        key: row["accuracy"] for row in rows if row["n_members"] == 3 for key in [(row["protocol"], row["method"])]
    }
    for method in ("uniform_soup", "logit_average"):
        assert accuracy["correct", method] == accuracy["train_mode", method], "nothing is drawn or normalised here"
        assert accuracy["correct", method] != accuracy["shared_transform", method]
