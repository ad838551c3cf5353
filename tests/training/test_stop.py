"""Trainings that are stopped after any step, and go on from their file with the same bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sweep.config.recipe import Recipe
from sweep.core.registry import get_plugin
from sweep.model.build import build
from sweep.training.checkpoint import SaveTimes, TrainingCheckpoint, TrainingStoppedError
from sweep.training.history import NonFiniteError, TrainResult
from sweep.training.trainer import train
from sweep.training.vmap_trainer import train_vmapped
from tests.training.test_trainer import splits, states_equal

EPOCHS = 3
STEPS = 5  # of an epoch; the last has two examples
RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "crop": 1, "flip": True, "mixup": 0.3, "warmup": 1},
    "phases": {
        **{"linear_probe_epochs": 1, "freeze": ("*.bias",), "swa": {"from": 2}, "l2_start": 0.1, "crop": 1},
        **{"scope": {"target": "start", "strength": 0.5}, "optimizer": "adamw", "lr": 0.01},
    },
    "adamw": {"optimizer": "adamw", "lr": 0.01, "ema": 0.9, "checkpoint": "best", "clip_grad_norm": 0.5},
}
NETWORKS = {"mlp": {"hidden": [8], "dropout": 0.3}, "cnn": {"width": 2, "dropout": 0.3}}
Point = tuple[Any, ...]


def model(name: str, seed: int) -> nn.Module:
    settings = NETWORKS[name]
    return build(get_plugin("architectures", name).function, (3, 1, 8), seed, **settings)


def points(result: TrainResult) -> list[Point]:
    return [dataclasses.astuple(dataclasses.replace(epoch, seconds=0.0)) for epoch in result.curve]


def resumed(training: Callable[[TrainingCheckpoint], Any], file: Path, every: int) -> tuple[Any, int]:
    """The result of a training that is stopped each time after `every` saves, and how often it was."""
    for stops in count():
        saves = count(1)
        times = SaveTimes(1e9, lambda saves=saves: next(saves) == every)  # type: ignore[misc]
        try:
            return training(TrainingCheckpoint(file, torch.device("cpu"), times)), stops
        except TrainingStoppedError:
            assert file.exists()
    raise AssertionError


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("every", [1, 2, STEPS])
def test_a_training_goes_on_after_any_step_with_the_same_bits(
    recipe: str, network: str, every: int, tmp_path: Path
) -> None:
    settings = Recipe(epochs=EPOCHS, batch_size=32, **RECIPES[recipe])

    def training(checkpointer: TrainingCheckpoint | None) -> TrainResult:
        return train(model(network, 0), splits(), settings, 1, epochs=EPOCHS, checkpointer=checkpointer)

    whole = training(None)
    found, stops = resumed(training, tmp_path / "a.partial", every)
    saves = EPOCHS * (STEPS + 1) - 1  # after each step, and after each epoch but the last
    assert stops == saves // every
    assert states_equal(found.state, whole.state)
    assert points(found) == points(whole)
    assert found.best.epoch == whole.best.epoch


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("every", [1, STEPS])
def test_a_group_goes_on_after_any_step_with_the_same_bits(
    recipe: str, network: str, every: int, tmp_path: Path
) -> None:
    settings = Recipe(epochs=EPOCHS, batch_size=32, **RECIPES[recipe])

    def training(checkpointer: TrainingCheckpoint | None) -> list[TrainResult | NonFiniteError]:
        models = [model(network, seed) for seed in range(3)]
        with torch.no_grad():
            next(models[1].parameters()).fill_(torch.nan)
        return train_vmapped(models, splits(), settings, [1, 2, 3], epochs=EPOCHS, checkpointer=checkpointer)

    whole = training(None)
    found, stops = resumed(training, tmp_path / "a.partial", every)
    assert stops == (EPOCHS * (STEPS + 1) - 1) // every
    assert [str(each) for each in found if isinstance(each, NonFiniteError)] == [str(whole[1])]
    for one, other in ((found[0], whole[0]), (found[2], whole[2])):
        assert isinstance(other, TrainResult)
        assert states_equal(one.state, other.state)
        assert points(one) == points(other)
        assert one.best.epoch == other.best.epoch


def stopped_after(epochs: int, training: Callable[[TrainingCheckpoint], Any], file: Path) -> None:
    """Stop a training at the end of an epoch, and leave its file as earlier versions wrote it."""
    saves = count(1)
    times = SaveTimes(1e9, lambda: next(saves) == epochs * (STEPS + 1))
    with pytest.raises(TrainingStoppedError):
        training(TrainingCheckpoint(file, torch.device("cpu"), times))
    state = torch.load(file, weights_only=True)
    assert state.pop("part") is None
    if "epochs" not in state:  # of one model: seconds were those of its curve
        del state["seconds"]
    torch.save(state, file)


def test_checkpoints_of_earlier_versions_are_continued(tmp_path: Path) -> None:
    settings = Recipe(epochs=EPOCHS, batch_size=32, **RECIPES["adamw"])

    def alone(checkpointer: TrainingCheckpoint | None) -> list[TrainResult]:
        return [train(model("mlp", 0), splits(), settings, 1, epochs=EPOCHS, checkpointer=checkpointer)]

    def group(checkpointer: TrainingCheckpoint | None) -> list[TrainResult | NonFiniteError]:
        models = [model("mlp", seed) for seed in range(2)]
        return train_vmapped(models, splits(), settings, [1, 2], epochs=EPOCHS, checkpointer=checkpointer)

    for training in (alone, group):
        file = tmp_path / f"{training.__name__}.partial"
        stopped_after(2, training, file)
        old = torch.load(file, weights_only=True)
        found = training(TrainingCheckpoint(file, torch.device("cpu"), SaveTimes(1e9)))
        for one, other in zip(found, training(None), strict=True):
            assert isinstance(one, TrainResult)
            assert isinstance(other, TrainResult)
            assert states_equal(one.state, other.state)
            assert points(one) == points(other)
            first = old["curve"] if "curve" in old else old["courses"][0]["curve"]
            assert one.curve[2].seconds >= first[1][-1]


def test_a_checkpoint_is_saved_within_an_epoch_when_its_time_has_come(tmp_path: Path) -> None:
    file = tmp_path / "a.partial"
    seen: list[int] = []

    class Watched(TrainingCheckpoint):
        def save(self, state: Callable[[], dict[str, Any]]) -> None:
            super().save(state)
            part = torch.load(file, weights_only=True)["part"]
            seen.append(part["steps"] if part else 0)

    recipe = Recipe(epochs=2, batch_size=32)
    train(model("mlp", 0), splits(), recipe, 1, epochs=2, checkpointer=Watched(file, torch.device("cpu"), SaveTimes(0)))
    assert seen == [1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]
