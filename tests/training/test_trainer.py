"""Training: what is kept, and the same bits from the same seed."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from sweep.config.recipe import Recipe
from sweep.model.build import fork_rng
from sweep.model.split import DeviceSplit
from sweep.training.history import NonFiniteError
from sweep.training.trainer import Trainer, train
from tests.helpers import ROOT
from tests.helpers.engine import trained


def splits(examples: int = 130, size: int = 8) -> dict[str, DeviceSplit]:
    generator = torch.Generator().manual_seed(3)
    found = {}
    for name in ("train", "validation"):
        labels = torch.randint(3, (examples,), generator=generator)
        images = torch.randint(256, (examples, 1, size, size), generator=generator, dtype=torch.uint8)
        images[:, 0, :4] = (labels * 100).to(torch.uint8)[:, None, None]
        found[name] = DeviceSplit(images, labels, torch.full((1, 1, 1), 127.0), torch.full((1, 1, 1), 64.0))
    return found


def network() -> nn.Module:
    with fork_rng(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def run(seed: int = 1, epochs: int = 3, **settings: Any) -> Any:
    recipe = Recipe(epochs=epochs, batch_size=32, **settings)
    return train(network(), splits(), recipe, seed, epochs=epochs)


def states_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "settings",
    [{}, {"mixup": 0.4}, {"crop": 1, "flip": True}, {"optimizer": "adamw", "lr": 0.01}, {"label_smoothing": 0.1}],
)
def test_the_seed_decides_every_bit(settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    first = run(**settings)
    torch.manual_seed(2)
    second = run(**settings)
    other = run(seed=2, **settings)
    assert states_equal(first.state, second.state)
    assert [e.train_loss for e in first.curve] == [e.train_loss for e in second.curve]
    assert not states_equal(first.state, other.state)


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(mixup=0.2, flip=True)
    assert torch.equal(torch.rand(3), expected)


def test_another_process_trains_the_same_member() -> None:
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from tests.helpers.engine import trained\n"
        "print(trained('{cnn: {width: 4}}').states[1]['conv1.weight'].sum().item().hex())"
    )
    here = trained("{cnn: {width: 4}}").states[1]["conv1.weight"].sum().item().hex()
    for seed in ("0", "123"):
        environment = {"PYTHONHASHSEED": seed, "PATH": "", "HOME": str(ROOT)}
        there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment)
        assert there.stdout.strip() == here, there.stderr


class Kept:
    """A memory that keeps every epoch as bytes, as a file would."""

    def __init__(self, stop_after: int) -> None:
        self.content = b""
        self.stop_after = stop_after

    def load(self) -> dict[str, Any] | None:
        return torch.load(io.BytesIO(self.content), weights_only=True) if self.content else None

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        buffer = io.BytesIO()
        torch.save(now := state(), buffer)
        self.content = buffer.getvalue()
        if len(now["curve"]) == self.stop_after:
            raise InterruptedError


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": "adamw", "lr": 0.01}, {"ema": 0.9, "mixup": 0.3}, {"checkpoint": "best"}]
)
def test_a_training_that_was_missing_goes_on_with_the_same_bits(settings: dict[str, Any]) -> None:
    recipe = Recipe(epochs=4, batch_size=32, **settings)
    for stops in ((1,), (3,), (1, 2), (1, 3)):
        kept = Kept(0)
        for kept.stop_after in stops:
            with pytest.raises(InterruptedError):
                train(network(), splits(), recipe, 1, epochs=4, checkpointer=kept)
        kept.stop_after = 0
        resumed = train(network(), splits(), recipe, 1, epochs=4, checkpointer=kept)
        whole = train(network(), splits(), recipe, 1, epochs=4)
        assert states_equal(resumed.state, whole.state)
        assert [dataclasses.replace(e, seconds=0) for e in resumed.curve] == [
            dataclasses.replace(e, seconds=0) for e in whole.curve
        ]
        assert resumed.best.epoch == whole.best.epoch


def test_clipping_bounds_a_step() -> None:
    data = splits(examples=32)["train"]
    model = network()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    recipe = Recipe(
        epochs=1, batch_size=32, lr=1.0, momentum=0, weight_decay=0, schedule="constant", clip_grad_norm=0.01
    )
    Trainer(model, data, recipe, 0).epoch(0, 1)
    moved = torch.cat([(new.detach() - old).flatten() for new, old in zip(model.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_average_follows_the_weights() -> None:
    model = network()
    recipe = Recipe(epochs=1, batch_size=32, lr=0.1, ema=0.75, schedule="constant", momentum=0)
    trainer = Trainer(model, splits(examples=32)["train"], recipe, 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer.epoch(0, 1)
    for name, mean in trainer.ema_model.state_dict().items():
        torch.testing.assert_close(mean, 0.75 * before[name] + 0.25 * model.state_dict()[name])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_no_step_waits_for_the_device(optimizer: Literal["sgd", "adamw"]) -> None:
    """On the meta device whoever asks what a number is gets an error: only the end of the epoch may."""
    model = network().to("meta")
    device = torch.device("meta")
    steps = []
    data = DeviceSplit(*(getattr(splits()["train"], name).to(device) for name in ("images", "labels", "mean", "std")))
    settings: dict[str, Any] = {"crop": 1, "flip": True, "mixup": 0.3, "ema": 0.9, "clip_grad_norm": 1.0}
    trainer = Trainer(model, data, Recipe(batch_size=32, optimizer=optimizer, **settings), 0)
    trainer.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta tensors"):
        trainer.epoch(0, 1)
    assert len(steps) == trainer.steps == 5


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"channels_last": True}])
def test_faster_arithmetic_learns_the_same(settings: dict[str, Any]) -> None:
    plain = run(lr=0.01, epochs=3)
    fast = run(lr=0.01, epochs=3, **settings)
    assert fast.curve[-1].train_loss == pytest.approx(plain.curve[-1].train_loss, rel=0.1)
    assert {tensor.dtype for tensor in fast.state.values()} == {torch.float32}


def test_best_keeps_the_first_of_the_best_epochs() -> None:
    best = run(checkpoint="best", lr=0.3, epochs=6)
    last = run(checkpoint="last", lr=0.3, epochs=6)
    accuracies = [epoch.validation_accuracy for epoch in best.curve]
    assert best.best.epoch == accuracies.index(max(accuracies)) + 1
    assert last.best.epoch == 6
    assert [e.train_loss for e in best.curve] == [e.train_loss for e in last.curve]
    shorter = train(network(), splits(), Recipe(epochs=6, batch_size=32, lr=0.3), 1, epochs=6)
    assert states_equal(shorter.state, last.state)


def test_it_learns_what_can_be_learnt() -> None:
    assert run(epochs=20, lr=0.02).best.validation_accuracy > 0.8, "chance is a third"


def test_a_loss_beyond_numbers_is_reported() -> None:
    with pytest.raises(NonFiniteError, match="non-finite loss in epoch 1"):
        run(lr=1e6, weight_decay=1e6)


def test_a_step_is_plain_sgd() -> None:
    """One batch of everything, against the update written out."""
    data = splits(examples=32)["train"]
    model = network()
    recipe = Recipe(epochs=1, batch_size=32, lr=0.1, momentum=0.0, weight_decay=0.01, schedule="constant")
    before = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    logits = torch.func.functional_call(model, before, (data.normalize(data.images),))
    loss = torch.nn.functional.cross_entropy(logits, data.labels)
    gradients = torch.autograd.grad(loss, list(before.values()))
    mean, _ = Trainer(model, data, recipe, 0).epoch(0, 1)
    assert mean == pytest.approx(float(loss.detach()), rel=1e-5)
    for (name, old), gradient in zip(before.items(), gradients, strict=True):
        expected = old - 0.1 * (gradient + 0.01 * old)
        torch.testing.assert_close(
            dict(model.named_parameters())[name].detach(), expected.detach(), atol=1e-6, rtol=1e-5
        )
