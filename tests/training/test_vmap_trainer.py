"""Members trained together: the same as one by one, but for the last bits, and nobody's business but their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from sweep.config.recipe import Recipe
from sweep.core.registry import get_plugin
from sweep.model.build import build, fork_rng
from sweep.model.split import DeviceSplit, to_device
from sweep.training.history import NonFiniteError, TrainResult
from sweep.training.trainer import train
from sweep.training.vmap_trainer import VmapTrainer, train_vmapped
from tests.training.test_trainer import Kept, splits, states_equal

SIZE = 16
CLASSES = 4
MEMBERS = 3
EVERYTHING = {
    "crop": 2,
    "flip": True,
    "mixup": 0.4,
    "ema": 0.9,
    "clip_grad_norm": 0.5,
    "checkpoint": "best",
    "label_smoothing": 0.1,
}
Make = Callable[[int], nn.Module]


def pictures(size: int = SIZE) -> dict[str, DeviceSplit]:
    made = get_plugin("datasets", "synthetic").function(classes=CLASSES, examples=150, size=size)
    return {name: to_device(made, name, torch.device("cpu")) for name in ("train", "validation")}


def maker(architecture: str, size: int = SIZE, **settings: Any) -> Make:
    function = get_plugin("architectures", architecture).function
    return lambda seed: build(function, (CLASSES, 3, size), seed, **settings)


def both(
    make: Make, recipe: Recipe, data: dict[str, DeviceSplit], count: int = MEMBERS
) -> tuple[list[TrainResult], list[TrainResult]]:
    """Trained one by one, and together."""
    alone = [train(make(seed), data, recipe, 50 + seed, epochs=recipe.epochs) for seed in range(count)]
    models = [make(seed) for seed in range(count)]
    seeds = range(50, 50 + count)
    found = train_vmapped(models, data, recipe, seeds, epochs=recipe.epochs)
    assert all(isinstance(each, TrainResult) for each in found)
    return alone, [each for each in found if isinstance(each, TrainResult)]


def assert_the_same(alone: Sequence[TrainResult], stacked: Sequence[TrainResult], tolerance: float) -> None:
    for one, other in zip(alone, stacked, strict=True):
        assert list(one.state) == list(other.state)
        for name, tensor in one.state.items():
            torch.testing.assert_close(other.state[name], tensor, rtol=0, atol=tolerance, msg=lambda m, n=name: n + m)
        for here, there in zip(one.curve, other.curve, strict=True):
            assert there.train_loss == pytest.approx(here.train_loss, abs=1e-5)
            assert there.validation_cross_entropy == pytest.approx(here.validation_cross_entropy, abs=1e-5)
            assert (there.epoch, there.learning_rate) == (here.epoch, here.learning_rate)
        assert (one.best.epoch, one.n_parameters, one.forward_flops) == (
            other.best.epoch,
            other.n_parameters,
            other.forward_flops,
        )
    assert not states_equal(stacked[0].state, stacked[1].state)


@pytest.mark.parametrize(
    ("architecture", "settings", "recipe"),
    [
        ("cnn", {"width": 8, "dropout": 0.5}, {}),
        ("cnn", {"width": 4, "dropout": 0.3}, {"epochs": 3, **EVERYTHING}),
        ("mlp", {"hidden": (16, 8)}, {"mixup": 0.2, "warmup": 0.5}),
        ("mlp", {"hidden": (16,)}, {"optimizer": "adamw", "lr": 0.003}),
        ("linear", {}, {"schedule": "multistep", "milestones": (0.5,)}),
    ],
)
def test_an_epoch_together_is_the_same_as_one_by_one(
    architecture: str, settings: dict[str, Any], recipe: dict[str, Any]
) -> None:
    wanted = Recipe(**{"epochs": 1, "batch_size": 32} | recipe)
    assert_the_same(*both(maker(architecture, **settings), wanted, pictures()), tolerance=1e-5)


def test_a_vision_transformer_too() -> None:
    make = maker("timm", size=32, name="test_vit")
    alone, together = both(make, Recipe(epochs=1, batch_size=32, lr=0.01), pictures(32), count=2)
    assert_the_same(alone, together, tolerance=1e-5)


@pytest.mark.parametrize(
    ("architecture", "settings"), [("mlp_bn", {"hidden": (16, 8)}), ("timm", {"name": "test_resnet"})]
)
def test_running_statistics_are_each_members_own(architecture: str, settings: dict[str, Any]) -> None:
    """In double precision, for batch statistics multiply the last bits."""
    plain = maker(architecture, size=32, **settings)
    recipe = Recipe(epochs=1, batch_size=32)
    alone, together = both(lambda seed: Precise(plain(seed)).double(), recipe, pictures(32), count=2)
    assert any("running_var" in name for name in together[0].state)
    assert_the_same(alone, together, tolerance=1e-6)


class Precise(nn.Module):
    """A network in double precision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.double())
        return logits


class Tied(nn.Module):
    """Depth that is dropped, in one order of examples, and a matrix that is used twice under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.depth = StochasticDepth(0.5, "row")
        self.second = nn.Linear(64, 64)
        self.spots = nn.Dropout1d(0.4)
        self.head = nn.Linear(64, 3)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        values = self.first(images.flatten(1)).relu()
        values = values + self.depth(self.second(values))
        logits: Tensor = self.head(self.spots(values[:, None])[:, 0])
        return logits


def tied(seed: int) -> nn.Module:
    with fork_rng(seed):
        return Tied()


def test_every_kind_of_dropping_is_each_members_own_and_tied_weights_stay_tied() -> None:
    alone, together = both(tied, Recipe(epochs=2, batch_size=32, lr=0.01), splits())
    assert_the_same(alone, together, tolerance=1e-5)
    assert torch.equal(together[1].state["first.weight"], together[1].state["second.weight"])


def test_training_together_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_vmapped([tied(0), tied(1)], splits(), Recipe(epochs=1), [1, 2], epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_clipping_bounds_each_members_step() -> None:
    data = splits(examples=32)["train"]
    recipe = Recipe(batch_size=32, momentum=0, weight_decay=0, schedule="constant", lr=1.0, clip_grad_norm=0.01)
    models = [tied(0), tied(1)]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(0.01)  # its gradients are other sizes
    before = [{name: each.detach().clone() for name, each in model.named_parameters()} for model in models]
    stack = VmapTrainer(models, data, recipe, (1, 2))
    stack.epoch(0, 1)
    for place, old in enumerate(before):
        moved = torch.cat([(stack.parameters[name][place] - tensor).flatten() for name, tensor in old.items()])
        assert float(moved.detach().norm()) == pytest.approx(0.01, rel=1e-3)


def test_no_step_waits_for_the_device() -> None:
    """As for one member: on the meta device whoever asks what a number is gets an error."""
    device = torch.device("meta")
    settings = EVERYTHING | {"checkpoint": "last", "batch_size": 32}
    data = DeviceSplit(*(getattr(splits()["train"], name).to(device) for name in ("images", "labels", "mean", "std")))
    stack = VmapTrainer([tied(0).to(device), tied(1).to(device)], data, Recipe(**settings), (1, 2))
    steps = []
    stack.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    with pytest.raises(RuntimeError, match="Cannot copy out of meta tensor"):
        stack.epoch(0, 1)
    assert len(steps) == stack.steps == 5


def test_a_member_that_leaves_the_numbers_is_missing_alone() -> None:
    recipe = Recipe(epochs=2, batch_size=32)
    data = splits()
    models = [tied(seed) for seed in range(3)]
    with torch.no_grad():
        models[1].get_submodule("head").weight.fill_(1e30)  # type: ignore[union-attr,operator]
    first, missing, last = train_vmapped(models, data, recipe, [50, 51, 52], epochs=2)
    assert isinstance(missing, NonFiniteError)
    assert str(missing) == "non-finite loss in epoch 1; try a smaller `train.lr`"
    alone = [train(tied(seed), data, recipe, 50 + seed, epochs=2) for seed in (0, 2)]
    assert isinstance(first, TrainResult)
    assert isinstance(last, TrainResult)
    assert_the_same(alone, [first, last], tolerance=1e-5)


@pytest.mark.parametrize("settings", [{}, {"optimizer": "adamw", "lr": 0.003}, {"ema": 0.9, "checkpoint": "best"}])
def test_a_group_that_was_missing_goes_on_with_the_same_bits(settings: dict[str, Any]) -> None:
    recipe = Recipe(epochs=4, batch_size=32, **settings)
    data = splits()
    kept = KeptGroup(0)

    def together(checkpointer: KeptGroup | None) -> list[TrainResult | NonFiniteError]:
        return train_vmapped([tied(0), tied(1)], data, recipe, [1, 2], epochs=4, checkpointer=checkpointer)

    for kept.stop_after in (1, 3):
        with pytest.raises(InterruptedError):
            together(kept)
    kept.stop_after = 0
    for resumed, whole in zip(together(kept), together(None), strict=True):
        assert isinstance(resumed, TrainResult)
        assert isinstance(whole, TrainResult)
        assert states_equal(resumed.state, whole.state)
        assert [e.train_loss for e in resumed.curve] == [e.train_loss for e in whole.curve]
        assert resumed.best.epoch == whole.best.epoch


class KeptGroup(Kept):
    """A memory of a group, which is interrupted after so many epochs."""

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        super().save(lambda: {**state(), "curve": state()["courses"][0]["curve"]})
