"""Recipes that architectures and data sets state: they hold, they yield, and what was resolved is what is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sweep.cli.main import main
from sweep.config.defaults import plugin_defaults, with_defaults
from sweep.config.document import ConfigError, Document, parse
from sweep.config.loader import check
from sweep.config.recipe import Recipe
from sweep.config.spec import Population, Sweep
from sweep.core.choice import PluginConfig
from sweep.core.dataset import AUGMENTATIONS, PublishedInfo
from sweep.core.registry import Plugin, get_plugin, list_plugins
from sweep.plan.planner import make_plan

ARCHITECTURES = [get_plugin("architectures", name) for name in list_plugins("architectures")]
DATASETS = [get_plugin("datasets", name) for name in list_plugins("datasets")]
BARE = {"cnn", "linear", "mlp", "mlp_bn"}


def choice(kind: str, name: str, **values: Any) -> PluginConfig:
    needed = {"architectures": {"timm": {"name": "resnet18"}, "torchvision": {"name": "resnet18"}}}.get(kind, {})
    return PluginConfig(kind, name, get_plugin(kind, name).validate(needed.get(name, {}) | values))


DIGITS = choice("datasets", "digits")


def swept(architecture: Any, train: dict[str, Any] | None = None, dataset: Any = "digits", **more: Any) -> Sweep:
    population = {"architecture": architecture, "dataset": dataset, "members": 2, "train": train or {}} | more
    return check(Document("f.yaml", {"name": "t", "populations": [population], "subsets": {"sizes": [2]}}))


def recipe(architecture: Any, train: dict[str, Any] | None = None, dataset: Any = "digits", **more: Any) -> Recipe:
    return swept(architecture, train, dataset, **more).populations[0].recipe


@pytest.mark.parametrize("entry", ARCHITECTURES, ids=lambda entry: entry.name)
def test_what_an_architecture_states_holds(entry: Plugin) -> None:
    own = entry.constant("RECIPE")
    tuned = entry.constant("FINE_TUNING")
    assert (own is None) == (entry.name in BARE)
    assert (tuned is not None) == ("pretrained" in entry.settings.model_fields)
    for settled in (own or {}, (own or {}) | (tuned or {})):
        assert not settled.keys() & AUGMENTATIONS, "which augmentations fit is a matter of the data"
        assert settled.items() <= Recipe(**settled).model_dump().items()
        assert with_defaults({}, settled) == settled, "it yields to nothing of its own"


@pytest.mark.parametrize("entry", DATASETS, ids=lambda entry: entry.name)
def test_what_a_data_set_states_holds(entry: Plugin) -> None:
    own = entry.constant("RECIPE")
    paper = entry.constant("ON_PAPER")
    assert set(own or {}) <= AUGMENTATIONS
    assert Recipe(**(own or {}))
    assert isinstance(paper, PublishedInfo) == bool(entry.constant("FILES")) == (own is not None)
    if paper:
        assert {"size", "validation"} <= set(entry.settings.model_fields)


def test_what_states_nothing_is_trained_as_ever() -> None:
    for name in BARE:
        assert recipe(name) == Recipe()


CIFAR = {"cifar10": {"root": "data"}}
RESOLVED: dict[str, tuple[Any, dict[str, Any], Any, dict[str, Any]]] = {
    "an architecture": ("resnet18", {}, "digits", {"lr": 0.1, "epochs": 200, "optimizer": "sgd", "crop": 0}),
    "a data set": ("cnn", {}, CIFAR, {"lr": 0.05, "epochs": 10, "crop": 4, "flip": True}),
    "both": ("vit_tiny", {}, CIFAR, {"lr": 1e-3, "optimizer": "adamw", "crop": 4, "warmup": 10}),
    "a wish": (
        "vit_tiny",
        {"lr": 0.3, "flip": False},
        CIFAR,
        {"lr": 0.3, "flip": False, "crop": 4, "clip_grad_norm": 1},
    ),
    "a wish for what is usual": (
        "vit_tiny",
        {"clip_grad_norm": 0, "batch_size": 64},
        "digits",
        {"clip_grad_norm": 0, "batch_size": 64},
    ),
    "larger images": ("cnn", {}, {"cifar10": {"root": "data", "size": 224}}, {"crop": 28}),
    "small images": ("cnn", {}, {"tiny_imagenet": {"root": "data", "size": 32}}, {"crop": 4}),
    "upright images": ("cnn", {}, {"svhn": {"root": "data"}}, {"crop": 4, "flip": False}),
    "pretrained": ({"vit_tiny": {"pretrained": True}}, {}, "digits", {"lr": 1e-4, "epochs": 50, "weight_decay": 0.05}),
    "short": ("vit_tiny", {"epochs": 5}, "digits", {"warmup": 0.5, "start_epochs": 1, "epochs": 5}),
    "long": ("vit_tiny", {"epochs": 999}, "digits", {"warmup": 10, "start_epochs": 10}),
    "short, with a wish": ("vit_tiny", {"epochs": 5, "warmup": 3}, "digits", {"warmup": 3}),
    "another optimizer": (
        *("vit_tiny", {"optimizer": "sgd"}, "digits"),
        {"lr": 0.05, "weight_decay": 5e-4, "momentum": 0.9, "warmup": 10, "label_smoothing": 0.1},
    ),
    "the same optimizer": ("vit_tiny", {"optimizer": "adamw"}, "digits", {"lr": 1e-3, "weight_decay": 0.05}),
    "steps": ("vit_tiny", {"milestones": [3]}, "digits", {"schedule": "multistep", "milestones": (3,)}),
    "no steps": ("vit_tiny", {"milestones": []}, "digits", {"schedule": "cosine", "milestones": ()}),
}


@pytest.mark.parametrize("name", RESOLVED)
def test_what_is_left_out_is_as_stated_and_goes_together(name: str) -> None:
    architecture, train, dataset, expected = RESOLVED[name]
    found = swept(architecture, train, dataset)
    assert expected.items() <= found.populations[0].recipe.model_dump().items()
    (population,) = found.to_config["populations"]
    assert population["train"] == found.populations[0].recipe.to_config()
    again = check(parse(found.to_yaml(), "resolved.yaml"))
    assert (again.id, again.to_config) == (found.id, found.to_config)
    assert [member.id for member in make_plan(again).members] == [member.id for member in make_plan(found).members]


def test_stated_steps_yield_to_another_schedule() -> None:
    steps = {"schedule": "multistep", "milestones": (3,), "epochs": 9}
    assert Recipe(**with_defaults({"schedule": "constant"}, steps)).milestones == ()
    assert Recipe(**with_defaults({"milestones": []}, steps)).schedule == "cosine"
    assert Recipe(**with_defaults({"milestones": [4]}, steps)).milestones == (4,)
    assert Recipe(**with_defaults({"schedule": "multistep"}, steps)).milestones == (3,)
    assert with_defaults({"optimizer": "adamw"}, {"lr": 1.0, "clip_grad_norm": 2.0}) == {
        "optimizer": "adamw",
        "clip_grad_norm": 2.0,
    }


WISHES = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 400) | st.sampled_from(["3", "inf", "x", None, -1]),
        "start_epochs": st.integers(1, 20),
        "batch_size": st.integers(2, 512),
        "optimizer": st.sampled_from(["sgd", "adamw"]),
        "lr": st.floats(1e-5, 1),
        "warmup": st.floats(0, 20),
        "schedule": st.sampled_from(["constant", "cosine", "multistep"]),
        "milestones": st.lists(st.integers(0, 9), max_size=2),
        "label_smoothing": st.floats(0, 0.5),
        "clip_grad_norm": st.floats(0, 2),
        "crop": st.integers(0, 4),
    },
)
STATED = [
    plugin_defaults(choice("architectures", entry.name, **more), dataset)
    for entry in ARCHITECTURES
    for more in ([{}, {"pretrained": True}] if "pretrained" in entry.settings.model_fields else [{}])
    for dataset in (DIGITS, choice("datasets", "cifar10", root="data"))
] + [{"schedule": "multistep", "milestones": (30, 60), "epochs": 90, "warmup": 5}]


@given(WISHES, st.sampled_from(STATED))
@settings(max_examples=300, deadline=None)
def test_a_wish_is_kept_and_no_default_is_a_mistake(wanted: dict[str, Any], defaults: dict[str, Any]) -> None:
    found = with_defaults(wanted, defaults)
    assert wanted.items() <= found.items()
    try:
        Recipe(**found)
    except ValidationError as error:
        for problem in error.errors():
            about = {str(part) for part in problem["loc"]} or {"warmup", "schedule", "milestones"}
            assert about & wanted.keys(), problem


def test_names_hold_what_was_chosen_and_not_what_follows() -> None:
    def message(*populations: dict[str, Any]) -> list[str]:
        listed = [{"name": "a", "members": 2, **each} for each in populations]
        values = {"name": "t", "populations": listed, "subsets": {"sizes": [2]}}
        return [population.name for population in check(Document("f.yaml", values)).populations]

    assert message({"architecture": ["resnet18", "vit_tiny"]}) == [
        "a,architecture=resnet18,stem=cifar",
        "a,architecture=vit_tiny,patch_size=0",
    ]
    assert message({"architecture": "resnet18", "train": {"lr": [0.1, 0.2]}}) == ["a,lr=0.1", "a,lr=0.2"]
    assert message({"architecture": ["cnn", "mlp"], "train": {"lr": 0.1}}, {"architecture": "linear"})[2].endswith(
        "lr=0.05"
    )


OWN = '''
"""Of one's own."""
from sweep.plugins.architectures.linear import linear as plain
RECIPE = {recipe}
def linear(classes, channels, size):
    """Linear."""
    return plain(classes, channels, size)
'''


def test_an_architecture_of_ones_own_states_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_right.py").write_text(OWN.format(recipe={"lr": 0.3, "epochs": 7}))
    (tmp_path / "own_wrong.py").write_text(OWN.format(recipe={"lr": -1, "epoch": 7}))
    found = recipe("own_right:linear", {"epochs": 8})
    assert (found.lr, found.epochs) == (0.3, 8)
    with pytest.raises(ConfigError) as caught:
        recipe("own_wrong:linear")
    assert str(caught.value) == (
        "f.yaml: `populations[0].architecture.RECIPE.lr`: expected a number above 0, got -1\n"
        "f.yaml: `populations[0].architecture.RECIPE.epoch`: unknown key\n  hint: did you mean `epochs`?"
    )
    for name in ("own_right", "own_wrong"):
        sys.modules.pop(name)


def test_models_from_elsewhere_have_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch()
    (tmp_path / "b.pth").touch()
    values = {"name": "t", "subsets": {"sizes": [2]}}
    source = {"checkpoints": str(tmp_path / "*.pth"), "architecture": "resnet18"}
    found: Population = check(Document("f.yaml", values | {"populations": [source]})).populations[0]
    assert found.recipe == Recipe()
    assert found.id_content["train"] == {}


def test_show_tells_the_recipe() -> None:
    result = CliRunner().invoke(main, ["show", "resnet18"])
    assert "train by default: {optimizer: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.0005," in result.stdout
    assert "with pretrained weights: {epochs: 50," in result.stdout
    (message,) = json.loads(CliRunner().invoke(main, ["show", "svhn", "--json"]).stdout)
    assert message["recipes"] == {"RECIPE": {"crop": 4}}
    assert "by default:" not in CliRunner().invoke(main, ["show", "cnn"]).stdout
