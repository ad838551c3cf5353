"""Sweeps on paper: what they come to without data, weights or earlier rows; and those of arXiv 2411.09263."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sweep.cli.main import main
from sweep.config.loader import load
from sweep.core.choice import PluginConfig
from sweep.core.registry import get_plugin
from sweep.status.dataset_info import DatasetInfo, dataset_info, missing_datasets, published_info
from sweep.status.footprint import footprint
from sweep.status.preflight import check_networks, datasets
from sweep.status.state import RunState, load_state
from sweep.storage.run_folder import RunFolder
from tests.helpers import ROOT
from tests.helpers.dataset_files import write_cifar10

PAPER = ROOT / "configs/paper"
CLASSES = {"cifar10": 10, "cifar100": 100, "tiny_imagenet": 200}
NETWORKS = {  # parameters with 1000 classes as torchvision and timm tell them, and features before the head
    "vgg19": (143_667_240, 4096),
    "resnet50": (25_557_032, 2048),
    "densenet121": (7_978_856, 1024),
    "vit_b_16": (86_567_656, 768),
    "deit_tiny": (5_717_416, 192),
}
TRAIN = {
    **{"epochs": 50, "batch_size": 128, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
    **{
        "warmup": 1,
        "schedule": "multistep",
        "milestones": (20, 40),
        "gamma": 0.2,
        "label_smoothing": 0,
        "clip_grad_norm": 0,
    },
    **{"mixup": 0, "flip": True, "checkpoint": "last", "ema": 0},
}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without data or runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def message(*arguments: object) -> Any:
    result = CliRunner().invoke(main, ["plan", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def text(*arguments: object) -> str:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)]).stdout


def test_the_published_comparison_is_there_for_every_network_and_data_set() -> None:
    pairs = itertools.product(CLASSES, [*NETWORKS, "mlp", "cnn"])
    assert {file.stem for file in PAPER.iterdir()} == {f"{dataset}_{network}" for dataset, network in pairs}


@pytest.mark.parametrize("network", [*NETWORKS, "mlp", "cnn"])
@pytest.mark.parametrize("dataset", CLASSES)
def test_published_comparisons_are_planned_without_data_and_weights(
    dataset: str, network: str, elsewhere: Path, caches: Path
) -> None:
    file = PAPER / f"{dataset}_{network}.yaml"
    sweep = load(file)
    (population,) = sweep.populations
    assert (population.dataset.name, population.architecture.name) == (dataset, network)
    assert TRAIN.items() <= population.recipe.model_dump().items()
    assert population.recipe.crop == (8 if dataset == "tiny_imagenet" else 4)
    assert (population.pools, population.members) == (5, 10)
    tuned = network in NETWORKS
    assert (population.start, population.new_heads) == (("pretrained", True) if tuned else ("scratch", False))
    found = message(file)
    assert found["members"] == {"planned": 55 if tuned else 50, "new": 55 if tuned else 50, "failed": 0}
    assert f"(sweep fetch {dataset} --root data)" in found["absent"][dataset]
    assert found["training_images"] == 50 * 50 * (90_000 if dataset == "tiny_imagenet" else 45_000)
    (made,) = found["networks"].values()
    if tuned:
        of_imagenet, features = NETWORKS[network]
        assert made["parameters"] == of_imagenet - (1000 - CLASSES[dataset]) * (features + 1)
    assert found["weights_bytes"] == made["bytes"] * found["members"]["planned"]
    cost = f"{found['members']['new']} members and starts, {found['candidates']['new']:,} candidates"
    assert f"# Cost: {cost}, {found['training_images']:,} images to train on.\n" in file.read_text()
    assert set(found["methods"]) == {
        *("single", "uniform_soup", "greedy_soup", "logit_average", "feature_average"),
    }
    assert len(file.read_text().splitlines()) <= 25


WANTED = """
name: wanted
dataset: {cifar10: {root: data}}
populations: [{architecture: {linear: {}}, members: 3, train: {epochs: 2}}]
subsets: {pairs: all}
"""


def test_what_the_files_hold_counts_more_than_what_was_published(elsewhere: Path) -> None:
    (elsewhere / "f.yaml").write_text(WANTED)
    printed_before = message("f.yaml")
    assert printed_before["training_images"] == (3 * 2 + 1) * 45_000
    assert "as published        cifar10: progress unknown, since no file" in text("f.yaml")
    write_cifar10(elsewhere / "data")
    found = message("f.yaml")
    assert found["absent"] == {}
    assert found["training_images"] == (3 * 2 + 1) * 90
    assert "as published" not in text("f.yaml")
    assert found["candidates"] == printed_before["candidates"]


def test_populations_that_differ_by_their_folder_are_planned_without_them(elsewhere: Path) -> None:
    (elsewhere / "f.yaml").write_text(WANTED.replace("root: data", "root: [data, other]"))
    assert message("f.yaml")["members"]["planned"] == 8


def test_what_was_never_published_must_be_there(elsewhere: Path) -> None:
    (elsewhere / "f.yaml").write_text(WANTED.replace("cifar10: {root: data}", "imagefolder: {root: nowhere}"))
    result = CliRunner().invoke(main, ["plan", "f.yaml"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "imagefolder: no folder" in result.stderr


def test_a_network_that_cannot_be_built_is_reported_and_the_rest_is_counted(elsewhere: Path) -> None:
    (elsewhere / "f.yaml").write_text(WANTED.replace("{linear: {}}", "[{vgg11: {upsample: 8}}, linear]"))
    found = message("f.yaml")["networks"]
    assert found["linear-cifar10-shared"]["parameters"] == 3072 * 10 + 10
    assert "`upsample: 8` is below the images' size 32" in found["vgg11-cifar10-shared"]["error"]
    assert "is below the images' size 32" in text("f.yaml")


def test_published_data_are_known_by_what_is_asked_of_them() -> None:
    entry = get_plugin("datasets", "mnist")
    choice = PluginConfig(
        "datasets", "mnist", entry.validate({"root": "x", "size": 32, "channels": 3, "validation": 0.25})
    )
    expected = DatasetInfo((10, 3, 32), {"train": 45_000, "validation": 15_000, "test": 10_000})
    assert published_info(choice) == dataset_info(choice) == expected
    digits = PluginConfig("datasets", "digits", get_plugin("datasets", "digits").validate({"size": 8}))
    assert published_info(digits) is None
    assert dataset_info(digits).shape == (10, 1, 8)
    assert sum(dataset_info(digits).examples.values()) == 1797


MEASURED = """
name: {name}
dataset: {dataset}
populations: [{{architecture: {{cnn: {{width: 4}}}}, members: 4, train: {{epochs: 3, start_epochs: 2}}}}]
subsets: {{pairs: all}}
methods: [uniform_soup, logit_average]
execution: {{workers: 2}}
"""


def measured(folder: Path, dataset: str, seconds: float) -> RunState:
    """A run whose rows say that each image took so long, to train on and to evaluate on."""
    file = folder / "measured.yaml"
    file.write_text(MEASURED.format(name="measured", dataset=dataset))
    sweep = load(file)
    state = load_state(sweep, missing_datasets(sweep))
    run = RunFolder(sweep.folder)
    examples = dataset_info(sweep.populations[0].dataset).examples
    run.create({"schema_version": 1})
    about = {key: getattr(sweep.populations[0], key) for key in ("architecture", "dataset")}
    settings = {f"{key}_settings": choice.settings_json for key, choice in about.items()}
    named = {key: choice.name for key, choice in about.items()} | {"pool_id": state.plan.pools[0].id, "device": "cpu"}
    training = json.dumps(sweep.populations[0].recipe.model_dump(mode="json"))
    for member in [*state.plan.starts, *state.plan.members]:
        took = {"train_seconds": seconds * member.epochs * examples["train"], "training": training}
        row = {"member_id": member.id, "role": member.role, "start": "shared", "status": "ok", **settings}
        run.append("members", member.id, [named | row | took])
    for method in ("single", "uniform_soup"):
        took = {"merge_seconds": seconds * 100, "evaluate_seconds": seconds * 900, "n_examples": 1000}
        run.append("candidates", method, [named | {"method": method, "status": "ok"} | took])
    return state


@pytest.mark.parametrize("other", ["{cifar10: {root: x}}", "{cifar10: {root: x, split: 3, validation: 0.2}}"])
def test_a_cost_is_predicted_from_images_of_the_same_size(other: str, elsewhere: Path) -> None:
    measured(elsewhere, "{cifar100: {root: data}}", 1e-3)
    (elsewhere / "f.yaml").write_text(MEASURED.format(name="f", dataset=other))
    found = message("f.yaml")
    train = 40_000 if "0.2" in other else 45_000
    images = (4 * 3 + 2) * train + (4 + 6) * 10_000
    assert found["estimate"] == {
        "low_seconds": pytest.approx(images * 1e-3 / 2),
        "high_seconds": pytest.approx(images * 1e-3 / 2),
        "workers": 2,
        "from_rows": 7,
        "not_estimated": ["logit_average"],
    }


@pytest.mark.parametrize(
    "change",
    [
        {"cifar100: {root": "cifar100: {size: 16, root"},
        {"width: 4": "width: 5"},
        {"cnn: {width: 4}": "mlp: {}"},
        {"workers: 2": "workers: 2, gpus_per_member: 1, gpus_per_worker: 1"},
    ],
    ids=str,
)
def test_other_work_predicts_nothing(change: dict[str, str], elsewhere: Path) -> None:
    measured(elsewhere, "{cifar100: {root: data}}", 1e-3)
    written = MEASURED.format(name="f", dataset="{cifar100: {root: data}}")
    ((old, new),) = change.items()
    assert old in written
    (elsewhere / "f.yaml").write_text(written.replace(old, new))
    assert message("f.yaml")["estimate"] is None


def test_twice_the_epochs_take_twice_the_time(elsewhere: Path) -> None:
    measured(elsewhere, "{digits: {size: 8}}", 1e-3)
    (elsewhere / "f.yaml").write_text(MEASURED.format(name="f", dataset="{digits: {size: 8}}"))
    few, many = (message("f.yaml", f"train.epochs={epochs}", "methods=single") for epochs in (5, 10))
    extra = many["estimate"]["low_seconds"] - few["estimate"]["low_seconds"]
    train = dataset_info(load(elsewhere / "f.yaml").populations[0].dataset).examples["train"]
    assert extra == pytest.approx(4 * 5 * train * 1e-3 / 2)


def test_what_is_done_costs_nothing(elsewhere: Path) -> None:
    state = measured(elsewhere, "{digits: {size: 8}}", 1e-3)
    sweep = state.plan.sweep
    after = load_state(sweep)
    assert footprint(after, {})["training_images"] == 0 < footprint(state, {})["training_images"]
    assert after.missing == []


def test_a_sweep_on_paper_is_the_sweep(elsewhere: Path) -> None:
    """With the data there, a plan has the ids of the run."""
    (elsewhere / "f.yaml").write_text(WANTED)
    write_cifar10(elsewhere / "data")
    sweep = load("f.yaml")
    check_networks(sweep, datasets(sweep))
    assert missing_datasets(sweep) == {}
    planned = [member.id for member in load_state(sweep, missing_datasets(sweep)).plan.members]
    assert planned == [member.id for member in load_state(sweep).plan.members]
