"""Settings of the training that act on members alone: how they are written, what is refused, and ids without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.config.document import ConfigError, parse
from sweep.config.loader import check
from sweep.config.recipe import Recipe
from sweep.config.spec import Sweep
from sweep.plan.planner import make_plan
from sweep.status.preflight import check_networks, datasets
from sweep.storage.run_folder import RunFolder
from tests.helpers.command import sweep
from tests.helpers.plans import members, planned, with_population
from tests.helpers.start_plans import swept
from tests.helpers.texts import again

EACH: dict[str, dict[str, Any]] = {
    "l2_start": {"l2_start": 0.01},
    "freeze": {"freeze": ["conv1.*", "head.bias"]},
    "linear_probe_epochs": {"linear_probe_epochs": 1},
    "swa": {"swa": {"from": 0.5, "every": 2}},
    "scope": {"scope": {"target": "start", "strength": 0.1}},
}


def written(train: str, population: str = "") -> Sweep:
    text = f"name: t\npopulations:\n  - {{architecture: cnn, members: 2{population}, train: {{epochs: 10, {train}}}}}\n"
    return check(parse(f"{text}subsets: {{pairs: all}}\n", "f.yaml"))


def test_ids_and_records_of_sweeps_without_them_are_those_of_earlier_versions() -> None:
    plan = planned()
    assert plan.sweep.id == "d9ebf811dd21c6e4feb584f864d59e89"
    ids = [plan.starts[0].id, plan.members[0].id, plan.members[-1].id]
    assert ids == [
        *("e0e0f4080c976c6b9e30710ee8c7a1fd", "3b31048624f039de8b3be10853751a8a", "5e86a4efb08781c50c01f0c539cdbddd")
    ]
    unset = {"l2_start": 0, "freeze": [], "linear_probe_epochs": 0, "swa": None, "scope": None}
    off = planned(with_population(train=unset))
    assert (off.sweep.id, members(off)) == (plan.sweep.id, members(plan))
    assert not unset.keys() & Recipe().recorded.keys()


@pytest.mark.parametrize("key", EACH)
def test_each_is_recorded_and_read_again(key: str) -> None:
    found = swept({"architecture": "cnn", "members": 2, "train": EACH[key]})
    recipe = found.populations[0].recipe
    assert key in recipe.recorded
    assert key in recipe.id_content
    assert recipe.of_start == Recipe()
    [start] = make_plan(found).starts
    assert start.recipe == Recipe(), "a shared start is trained without"
    other = again(found)
    assert (other.id, other.populations[0].recipe) == (found.id, recipe)


def test_lists_of_them_are_factors_and_name_populations() -> None:
    factors = {"swa": [None, {"from": 8}], "freeze": [[], ["body"]], "l2_start": {"from": 0, "to": 1, "steps": 3}}
    found = swept({"architecture": "cnn", "members": 2, "train": factors})
    assert len(found.populations) == 12
    last = found.populations[-1]
    assert last.name == "cnn-digits-shared,l2_start=1.0,freeze=('body',),swa={from: 8.0, every: 1}"
    assert again(found).to_config == found.to_config


MISTAKES = {
    "swa: {form: 0.5}": (
        "f.yaml:3:57: `populations[0].train.swa`: `from` is missing\n"
        "f.yaml:3:63: `populations[0].train.swa.form`: unknown key\n  hint: did you mean `from`?"
    ),
    "swa: {from: 11}": "`swa` begins at a share below 1 or at one of the 10 epochs",
    "swa: {from: 2.5}": "`swa` begins at a share below 1 or at one of the 10 epochs",
    "swa: {from: 2}, ema: 0.9": "`swa` and `ema` are two averages of the weights: take one",
    "swa: {from: 2}, checkpoint: best": "`swa` keeps the average, `checkpoint: best` one epoch: take one",
    "linear_probe_epochs: 10": "`linear_probe_epochs` leaves no epoch of `epochs` to train all parameters",
    "linear_probe_epochs: 2, freeze: [head]": "`linear_probe_epochs` trains the head, which `freeze` leaves as it is",
    "scope: {target: fused, strength: 1}": "expected `start` or `fixed`, got 'fused'",
    "scope: {target: fixed, strength: 1}": "`target: fixed` needs the `std` of the weights",
    "scope: {target: start, strength: 1, std: 1}": "`target: start` takes mean and std from the start",
    "scope: {target: start, strength: 0}": "expected a number above 0, got 0",
    "l2_start: -1": "expected 0 or more, got -1",
    "freeze: ['']": "expected text of 1 characters or more",
}


@pytest.mark.parametrize("train", MISTAKES)
def test_what_makes_no_sense_is_refused(train: str) -> None:
    with pytest.raises(ConfigError) as caught:
        written(train)
    assert MISTAKES[train] in str(caught.value)


@pytest.mark.parametrize("key", ["l2_start", "linear_probe_epochs", "scope"])
def test_what_needs_a_start_is_refused_from_scratch(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        swept({"architecture": "cnn", "members": 2, "start": "scratch", "train": EACH[key]})
    [issue] = caught.value.issues
    assert issue.message == "members from scratch have no start"
    assert issue.path == ("populations", 0, "train", key)
    fixed = {"scope": {"target": "fixed", "strength": 1, "std": 0.1}, "freeze": ["conv1.*"], "swa": {"from": 2}}
    assert swept({"architecture": "cnn", "members": 2, "start": "scratch", "train": fixed})


FROZEN = {
    "freeze: [conv9.*, head]": ("`conv9.*` matches no parameter in cnn", "for example conv1.weight, head or body"),
    "freeze: [body, head]": ("every parameter is frozen in cnn", "leave one to train"),
    "freeze: ['*']": ("every parameter is frozen in cnn", "leave one to train"),
    "freeze: ['fc2.*'], linear_probe_epochs: 1": (
        "the head, which `linear_probe_epochs` trains, is frozen in cnn",
        "leave it out of freeze",
    ),
}


def test_running_statistics_alone_can_be_frozen() -> None:
    text = "name: t\ndataset: {digits: {size: 8}}\nsubsets: {pairs: all}\npopulations: "
    text += "[{architecture: mlp_bn, members: 2, train: {freeze: ['*PATTERN']}}]"
    known = check(parse(text.replace("PATTERN", "running_mean"), "f.yaml"))
    check_networks(known, datasets(known))
    unknown = check(parse(text.replace("PATTERN", "running_var"), "f.yaml"))
    with pytest.raises(ConfigError, match="matches no parameter in mlp_bn"):
        check_networks(unknown, datasets(unknown))


@pytest.mark.parametrize("train", FROZEN)
def test_patterns_that_freeze_nothing_or_everything_are_found_before_any_training(train: str) -> None:
    found = written(train)
    with pytest.raises(ConfigError) as caught:
        check_networks(found, datasets(found))
    [issue] = caught.value.issues
    assert (issue.message, issue.hint) == FROZEN[train]
    assert issue.path == ("populations", 0, "train", "freeze")
    right = written("freeze: [conv1.*, 'fc1.weight', head]")
    check_networks(right, datasets(right))


RUN = """
name: settings
dataset: {digits: {size: 8}}
populations:
  - architecture: {cnn: {width: 2}}
    members: 2
    train: {epochs: 2, batch_size: 128, l2_start: [0, 0.01], linear_probe_epochs: 1}
  - architecture: {mlp_bn: {hidden: [8], dropout: 0}}
    members: 2
    train: {epochs: 2, batch_size: 128, vmap_members: 2, swa: {from: 1}, freeze: [[], ["body"]]}
  - architecture: {mlp: {hidden: [8]}}
    start: scratch
    members: 2
    train: {epochs: 2, batch_size: 128, scope: [null, {target: fixed, std: 0.1, strength: 0.1}]}
subsets: {pairs: all}
methods: uniform_soup
execution: {mlflow: false, workers: 1}
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_with_each_of_them(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(RUN)
    assert "f.yaml: valid" in sweep("check", "f.yaml", cwd=tmp_path).stderr
    sweep("run", "f.yaml", cwd=tmp_path)
    folder = RunFolder(tmp_path / "runs/settings")
    rows = folder.read("members").to_pylist()
    assert {row["status"] for row in rows} == {"ok"}
    assert len(rows) == 6 * 2 + 4
    for key in EACH:
        assert any(f'"{key}":' in row["training"] for row in rows), key
    for row in rows:
        if '"freeze":["body"]' in row["training"] and row["role"] == "member":
            state = folder.load_weights(row["member_id"])
            start = folder.load_weights(row["start_id"])
            changed = {name for name in state if not state[name].equal(start[name])}
            assert len(changed) == 2, "weight and bias of the head"
            assert row["kept_epoch"] == 2
    candidates = folder.read("candidates").to_pylist()
    assert {row["status"] for row in candidates} == {"ok"}
    assert len([row for row in candidates if row["method"] == "uniform_soup"]) == 6
