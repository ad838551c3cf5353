"""Groups of members that are trained together: who is in which, what cannot be, and what is made anew."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from sweep.config.document import ConfigError, Document, parse
from sweep.config.loader import check
from sweep.core.dataset import load_dataset
from sweep.plan.planner import make_plan
from sweep.plan.pools import Pool, TrainingGroup, training_groups
from sweep.status.preflight import check_networks, datasets
from sweep.storage.run_folder import RunFolder
from sweep.training.checkpoint import SaveTimes
from sweep.training.members import train_group
from tests.helpers.command import sweep, weights
from tests.helpers.engine import plan_of


def pool(members: int = 6, **train: Any) -> Pool:
    settings = {"epochs": 1, "batch_size": 64, **train}
    return plan_of({"architecture": "linear", "members": members, "train": settings}).pools[0]


def test_one_at_a_time_is_the_default_and_makes_no_new_ids() -> None:
    silent = pool()
    one = pool(vmap_members=1)
    three = pool(vmap_members=3)
    assert one.id == silent.id
    assert [member.id for member in one.members] == [member.id for member in silent.members]
    assert not {member.id for member in three.members} & {member.id for member in silent.members}
    for here, there in zip(three.members, silent.members, strict=True):
        assert (here.init_seed, here.order_seed) == (there.init_seed, there.order_seed)


def test_groups_are_made_by_place_alone() -> None:
    found = pool(6, vmap_members=3)
    assert found.start
    every = training_groups([found], [found.start, *found.members])
    assert [[member.index for member in group.members] for group in every] == [[-1], [0, 1, 2], [3, 4, 5]]
    [late] = training_groups([found], found.members[4:5])
    assert late.members == found.members[3:]
    assert late.missing == found.members[4:5]
    grown = training_groups([pool(9, vmap_members=3)], pool(9, vmap_members=3).members)
    assert [group.id for group in grown][:2] == [group.id for group in every][1:]
    assert [group.members for group in training_groups([pool()], pool().members)] == [
        (each,) for each in pool().members
    ]


MISTAKES = {
    "architecture: cnn, members: 6, train: {vmap_members: 4}": (
        "f.yaml:3:45: `populations[0].train.vmap_members`: members: 6 is not a multiple of vmap_members: 4\n"
        "  hint: members: 8, or a divisor of 6"
    ),
    "architecture: cnn, start: scratch, members: {init: 2, order: 3}, train: {vmap_members: 2}": (
        "f.yaml:3:79: `populations[0].train.vmap_members`: order: 3 is not a multiple of vmap_members: 2\n"
        "  hint: order: 4, or a divisor of 3"
    ),
    "architecture: cnn, members: 4, train: {vmap_members: 4, compile: true}": (
        "f.yaml:3:37: `populations[0].train`: `vmap_members: 4` and `compile` do not go together"
    ),
    "architecture: cnn, members: 4, train: {vmap_members: 4, precision: bfloat16}": (
        "f.yaml:3:37: `populations[0].train`: `vmap_members: 4` and `bfloat16` do not go together"
    ),
}


@pytest.mark.parametrize("population", MISTAKES)
def test_what_does_not_go_together_is_reported_where_it_stands(population: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(parse(f"name: t\npopulations:\n  - {{{population}}}\nsubsets: {{pairs: all}}\n", "f.yaml"))
    assert str(caught.value) == MISTAKES[population]


OWN = '''
"""Of one's own."""
import torch
from torch import nn
class Own(nn.Module):
    """Drops in a function instead of a module."""
    def __init__(self, inputs, classes):
        super().__init__()
        self.head = nn.Linear(inputs, classes)
    def forward(self, images):
        return self.head(nn.functional.dropout(images.flatten(1), 0.5, self.training))
def own(classes, channels, size):
    """Own."""
    return Own(channels * size * size, classes)
'''


def test_a_network_that_cannot_be_stacked_is_reported_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_drops.py").write_text(OWN)
    for together, wanted in ((1, None), (2, "RuntimeError: vmap: called random operation")):
        population = {"architecture": "own_drops:own", "members": 2, "train": {"vmap_members": together}}
        made = check(Document("f.yaml", {"name": "t", "populations": [population], "subsets": {"pairs": "all"}}))
        if wanted is None:
            check_networks(made, datasets(made))
            continue
        with pytest.raises(ConfigError) as caught:
            check_networks(made, datasets(made))
        assert wanted in str(caught.value)
        assert str(caught.value).endswith("hint: vmap_members: 1")
    sys.modules.pop("own_drops")


@pytest.mark.parametrize("architecture", ["cnn", "mlp_bn", "resnet18", "vit_tiny", "timm"])
def test_what_is_here_can_be_stacked(architecture: str) -> None:
    settings = {"name": "test_vit"} if architecture == "timm" else {}
    population = {"architecture": {architecture: settings}, "members": 2, "train": {"vmap_members": 2}}
    values = {"name": "t", "dataset": {"synthetic": {"size": 32}}, "populations": [population]}
    made = check(Document("f.yaml", values | {"subsets": {"pairs": "all"}}))
    check_networks(made, datasets(made))


def folder_at(place: Path) -> RunFolder:
    folder = RunFolder(place)
    folder.create({"schema_version": 1})
    return folder


def test_only_the_missing_of_a_group_are_written(tmp_path: Path) -> None:
    plan = plan_of(
        {"architecture": "linear", "start": "scratch", "members": 3, "train": {"epochs": 2, "vmap_members": 3}}
    )
    [found] = plan.pools
    dataset = load_dataset(found.population.dataset)
    members = found.members
    whole = folder_at(tmp_path / "whole")
    parts = folder_at(tmp_path / "parts")
    train_group(TrainingGroup(members, members), "t", dataset, whole, "cpu")
    train_group(TrainingGroup(members, members[1:2]), "t", dataset, parts, "cpu")
    assert list(parts.member_statuses()) == [members[1].id]
    before = parts.part_file("members", members[1].id).stat().st_mtime_ns
    train_group(TrainingGroup(members, (members[0], members[2])), "t", dataset, parts, "cpu", save_times=SaveTimes(0))
    assert parts.weight_hashes() == whole.weight_hashes()
    assert parts.part_file("members", members[1].id).stat().st_mtime_ns == before
    assert not list(parts.path.rglob("*.partial"))
    written = {file: file.stat().st_mtime_ns for file in parts.path.rglob("*.*")}
    train_group(TrainingGroup(members, members), "t", dataset, parts, "cpu")
    assert {file: file.stat().st_mtime_ns for file in parts.path.rglob("*.*")} == written
    shares = whole.read("members")["train_seconds"].to_pylist()
    assert len(set(shares)) == 1


def test_a_group_that_fails_is_a_failed_row_for_each_missing_member(tmp_path: Path) -> None:
    plan = plan_of({"architecture": "linear", "start": "scratch", "members": 4, "train": {"vmap_members": 2}})
    members = plan.pools[0].members[:2]
    folder = folder_at(tmp_path / "run")
    grey = load_dataset(plan.pools[0].population.dataset)
    torn = dataclasses.replace(grey, size=4)  # images are larger than networks for it take
    train_group(TrainingGroup(members, members[1:]), "t", torn, folder, "cpu")
    [row] = folder.read("members").to_pylist()
    assert (row["member_id"], row["status"]) == (members[1].id, "failed")
    assert row["error"].startswith("RuntimeError: ")


RUN = """
name: together
dataset: {digits: {size: 8}}
populations:
  - {architecture: {cnn: {width: 2}}, start: scratch, members: 4, train: {epochs: 1, vmap_members: 2}}
subsets: {pairs: all}
methods: uniform_soup
execution: {mlflow: false, workers: 2}
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_member_that_is_gone_is_made_anew_with_its_group(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(RUN)
    sweep("run", "f.yaml", cwd=tmp_path)
    folder = RunFolder(tmp_path / "runs/together")
    before = weights(folder.path)
    [found] = make_plan(check(parse(RUN, "f.yaml"))).pools
    assert set(before) == {member.id for member in found.members}
    gone = found.members[3].id
    for table in ("members", "curves", "tasks"):
        folder.part_file(table, gone).unlink()
    folder.weights_file(gone).unlink()
    output = sweep("run", "f.yaml", cwd=tmp_path).stderr
    assert "1 members to train" in output
    assert weights(folder.path) == before
