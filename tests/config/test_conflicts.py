"""Where members begin: pretrained starts, heads of their own, and what does not go together."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sweep.config.document import ConfigError, parse
from sweep.config.loader import check
from sweep.config.spec import Sweep
from sweep.core.dataset import load_dataset
from sweep.model.build import build, build_member_model, fork_rng, reset_head
from sweep.model.layout import find_head
from sweep.plan.planner import Plan
from sweep.plan.pools import Member, TrainingGroup
from sweep.storage.run_folder import RunFolder
from sweep.training.members import train_group
from tests.helpers.pretrained import of_timm
from tests.helpers.start_plans import linear, planned, swept

TUNED = {"timm": {"name": "test_resnet", "pretrained": True}}
COLOURED = {"synthetic": {"classes": 3, "examples": 40, "size": 32}}


def written(population: str) -> Sweep:
    return check(parse(f"name: t\npopulations:\n  - {{{population}}}\nsubsets: {{pairs: all}}\n", "f.yaml"))


MISTAKES = {
    "pretrained weights that there are not": (
        "architecture: cnn, start: pretrained",
        "f.yaml:3:25: `populations[0].start`: there are no pretrained weights of `cnn`\n"
        "  hint: start: shared or scratch",
    ),
    "pretrained weights that are not used": (
        "architecture: resnet18, start: pretrained",
        "f.yaml:3:30: `populations[0].start`: `resnet18` is built here without pretrained weights\n"
        "  hint: architecture: {resnet18: {pretrained: true}}",
    ),
    "pretrained weights from scratch": (
        "architecture: {vit_tiny: {pretrained: true}}, start: scratch",
        "f.yaml:3:52: `populations[0].start`: `vit_tiny` is built here with pretrained weights\n"
        "  hint: start: pretrained",
    ),
    "own heads of a shared start": (
        "architecture: cnn, new_heads: true",
        "f.yaml:3:25: `populations[0].new_heads`: new_heads needs start: pretrained (start is shared)\n"
        "  hint: start: pretrained",
    ),
    "initialisations of a shared start": (
        "architecture: cnn, members: {init: 2, order: 3}",
        "f.yaml:3:35: `populations[0].members.init`: 2 initialisations, but members of a shared start begin at the "
        "same weights\n  hint: start: scratch",
    ),
    "initialisations of a pretrained start": (
        "architecture: {vit_tiny: {pretrained: true}}, start: pretrained, members: {init: 2}",
        "f.yaml:3:81: `populations[0].members.init`: 2 initialisations, but members of a pretrained start begin at "
        "the same weights\n  hint: new_heads: true draws heads, or init: 1",
    ),
    "no initialisation": (
        "architecture: cnn, start: scratch, members: {init: 0, ordr: 2}",
        "f.yaml:3:51: `populations[0].members.init`: expected 1 or more, got 0\n"
        "f.yaml:3:60: `populations[0].members.ordr`: unknown key\n  hint: did you mean `order`?",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_does_not_go_together_is_reported_where_it_stands(name: str) -> None:
    population, message = MISTAKES[name]
    with pytest.raises(ConfigError) as caught:
        written(population)
    assert str(caught.value) == message


def test_every_start_that_goes_together_is_right() -> None:
    tuned = {"vit_tiny": {"pretrained": True}}
    population = {"architecture": tuned, "start": ["shared", "pretrained"], "members": 3}
    assert [p.has_base for p in swept(population).populations] == [True, True]
    crossed = {"architecture": tuned, "start": "pretrained", "new_heads": True, "members": {"init": 2, "order": 2}}
    assert swept(crossed).populations[0].members == 4
    assert swept({"architecture": "cnn", "members": {"order": 3}}).populations[0].members == 3


NEEDS_BASE = '''
"""Needs a base."""
def moved(members, base):
    """Moved."""
    return base
'''


def test_methods_that_need_a_base_are_for_starts_that_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_moved.py").write_text(NEEDS_BASE)
    (tmp_path / "a.pth").touch()
    methods = {"methods": "own_moved:moved"}
    tuned = {"architecture": {"vit_tiny": {"pretrained": True}}, "start": ["pretrained", "shared"], "members": 2}
    assert planned(tuned, **methods).candidates
    for population, what, hint in (
        (linear(), "members from scratch have none", "start: shared or pretrained"),
        (
            {"architecture": "linear", "checkpoints": [str(tmp_path / "a.pth"), str(tmp_path / "a.pth")]},
            *("members of unknown start have none", "base: the file of their start"),
        ),
    ):
        with pytest.raises(ConfigError, match=f"needs a base; {what}\n  hint: {hint}$"):
            swept(population, **methods)


@pytest.mark.parametrize("own_heads", [False, True])
def test_members_of_a_pretrained_start_know_it(own_heads: bool) -> None:
    tuned = {"architecture": TUNED, "start": "pretrained", "new_heads": own_heads, "pools": 2, "members": 3}
    plan = planned(tuned)
    for pool in plan.pools:
        assert pool.start
        assert (pool.start.role, pool.start.epochs) == ("start", 0)
        assert {member.start_id for member in pool.members} == {pool.start.id}
        seeds = {member.init_seed for member in pool.members}
        assert len(seeds) == (3 if own_heads else 1)
        assert (pool.start.init_seed in seeds) == (not own_heads)
    assert len({pool.start.init_seed for pool in plan.pools if pool.start}) == 2
    other = planned(tuned | {"new_heads": not own_heads})
    assert not {m.id for m in plan.members} & {m.id for m in other.members}


def train_all(plan: Plan, tmp_path: Path) -> RunFolder:
    """The members of a plan with their starts, in this process."""
    folder = RunFolder(tmp_path / "run")
    folder.create({"schema_version": 1})
    for member in (*plan.starts, *plan.members):
        train_group(TrainingGroup((member,), (member,)), "t", load_dataset(member.population.dataset), folder, "cpu")
    statuses = folder.read("members", ["status", "error"]).to_pylist()
    assert statuses == [{"status": "ok", "error": None}] * len(statuses)
    return folder


def hardly_trained(own_heads: bool, **more: Any) -> Plan:
    """So that weights are about those that members began with."""
    train = {
        "epochs": 1,
        "lr": 1e-30,
        "optimizer": "sgd",
        "momentum": 0,
        "weight_decay": 0,
        "clip_grad_norm": 0,
        "warmup": 0,
    }
    start = {"start": "pretrained", "new_heads": own_heads, "members": 2, "train": train}
    return planned({"architecture": TUNED, **start, **more}, dataset=COLOURED)


def close(one: Tensor, other: Tensor) -> bool:
    """Equal but for a step of next to nothing."""
    return torch.allclose(one, other, rtol=0, atol=1e-20)


def test_a_pretrained_start_is_as_it_was_found(tmp_path: Path, caches: Path) -> None:
    stored = of_timm(caches, "test_resnet")
    plan = hardly_trained(own_heads=False)
    folder = train_all(plan, tmp_path)
    (start,) = plan.starts
    shape = load_dataset(start.population.dataset).shape
    model = build_member_model(start.population.architecture, shape, start.init_seed)
    head = find_head(model, 3)
    base = folder.load_weights(start.id)
    assert all(torch.equal(tensor, base[name]) for name, tensor in model.state_dict().items())
    assert {name for name in base if not torch.equal(base[name], stored[name])} == {f"{head}.weight", f"{head}.bias"}
    (row,) = folder.read("members", role="start").to_pylist()
    assert (row["start"], row["kept_epoch"], row["member_index"], row["start_id"]) == ("pretrained", 0, -1, None)
    assert 0 <= row["validation_accuracy"] <= 1
    assert math.isfinite(row["validation_cross_entropy"])
    curves = folder.read("curves").to_pylist()
    assert {(curve["role"], curve["epoch"]) for curve in curves} == {("member", 1)}
    for member in plan.members:
        found = folder.load_weights(member.id)
        assert all(close(found[name], base[name]) for name, _ in model.named_parameters())


def test_heads_of_their_own_are_drawn_by_the_init_seeds(tmp_path: Path, caches: Path) -> None:
    of_timm(caches, "test_resnet")
    plan = hardly_trained(own_heads=True, members={"init": 2, "order": 2})
    folder = train_all(plan, tmp_path)
    (start,) = plan.starts
    shape = load_dataset(start.population.dataset).shape
    model = build_member_model(start.population.architecture, shape, start.init_seed)
    base = folder.load_weights(start.id)
    head = find_head(model, 3)
    for member in plan.members:
        found = folder.load_weights(member.id)
        for name, _ in model.named_parameters():
            assert close(found[name], base[name]) == (not name.startswith(f"{head}.")), name
        assert close(found[f"{head}.weight"], drawn(member, model.get_submodule(head)).weight)
    heads = [folder.load_weights(member.id)[f"{head}.weight"] for member in plan.members]
    alike = [close(one, other) for one, other in itertools.combinations(heads, 2)]
    assert alike == [True, False, False, False, False, True], "of one initialisation, and of no other"


def drawn(member: Member, head: nn.Module) -> nn.Linear:
    """A linear layer as torch makes it, by the member's seed."""
    assert isinstance(head, nn.Linear)
    with fork_rng(member.init_seed):
        return nn.Linear(head.in_features, head.out_features)


def test_a_head_of_zeros_is_drawn_too() -> None:
    """torchvision begins the heads of vision transformers with zeros: members would not differ."""
    model = build(lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (3, 1, 2), 0)
    nn.init.zeros_(model[1].weight)
    reset_head(model, 3, 1)
    first = model[1].weight.detach().clone()
    reset_head(model, 3, 2)
    assert first.abs().sum() > 0
    assert not torch.equal(first, model[1].weight)
    reset_head(model, 3, 1)
    assert torch.equal(first, model[1].weight)
