"""L2-SP, frozen parameters, linear probing, weight scope and weight averaging, beside plain loops written here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from sweep.config.recipe import Recipe
from sweep.core.dataset import load_dataset
from sweep.core.ids import derive_seed
from sweep.model.build import build_member_model, fork_rng, reset_head
from sweep.model.layout import find_head
from sweep.model.split import DeviceSplit
from sweep.plan.pools import TrainingGroup
from sweep.storage.run_folder import RunFolder
from sweep.training.history import Epoch, NonFiniteError, TrainingHistory, TrainResult
from sweep.training.members import train_group
from sweep.training.trainer import train
from sweep.training.vmap_trainer import check_vmappable, train_vmapped
from tests.helpers.pretrained import of_timm
from tests.helpers.start_plans import planned
from tests.training.test_trainer import splits, states_equal

BATCH = 32
SEED = 5
PLAIN: dict[str, Any] = {"batch_size": BATCH, "schedule": "constant", "lr": 0.05, "momentum": 0.9}
CASES: dict[str, dict[str, Any]] = {
    "l2_start": {"l2_start": 0.3},
    "l2_start with clipping": {"l2_start": 0.3, "clip_grad_norm": 0.05},
    "freeze": {"freeze": ("conv1.*", "*.bias")},
    "linear_probe_epochs": {"linear_probe_epochs": 2, "optimizer": "adamw", "lr": 0.01},
    "scope of the start": {"scope": {"target": "start", "strength": 3.0}},
    "fixed scope": {"scope": {"target": "fixed", "strength": 0.5, "std": 0.1, "mean": 0.01}},
    "swa": {"swa": {"from": 0.34, "every": 2}},
    "all": {
        **{"l2_start": 0.1, "freeze": ("conv1.*",), "linear_probe_epochs": 1, "swa": {"from": 3}, "dropout": 0.3},
        **{"scope": {"target": "start", "strength": 1.0}, "crop": 1, "flip": True, "mixup": 0.3},
    },
}
EPOCHS = 4


class Small(nn.Module):
    """Two convolutions with batch norm, and a head."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(4, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.norm1(self.conv1(images)).relu()
        values = functional.max_pool2d(self.norm2(self.conv2(values)).relu(), 2)
        logits: Tensor = self.head(self.dropout(values.flatten(1)))
        return logits


def small(seed: int = 0, dropout: float = 0.0) -> Small:
    with fork_rng(seed):
        return Small(dropout)


def ours(settings: dict[str, Any], seed: int = 0, **more: Any) -> TrainResult:
    """The training of one network under the settings; `dropout` is the network's."""
    rest = {key: value for key, value in settings.items() if key != "dropout"}
    recipe = Recipe(**PLAIN | {"epochs": EPOCHS} | rest)
    return train(small(seed, settings.get("dropout", 0.0)), splits(), recipe, SEED + seed, epochs=EPOCHS, **more)


def batches(data: DeviceSplit, epoch: int, seed: int = SEED) -> Sequence[Tensor]:
    """The order of an epoch, batch by batch."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "epoch", epoch))
    return torch.randperm(len(data.labels), generator=generator).split(BATCH)


Penalty = Callable[[nn.Module], Tensor | float]


def plain_loop(
    model: nn.Module, penalty: Penalty, prepare: Callable[[int], None], after_epoch: Callable[[int], None]
) -> nn.Module:
    """Four epochs of sgd, as anyone writes them."""
    data = splits()["train"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for epoch in range(EPOCHS):
        model.train()
        prepare(epoch)
        for indices in batches(data, epoch):
            optimizer.zero_grad()
            images = (torch.as_tensor(data.images[indices]).float() - 127.0) / 64.0
            loss = functional.cross_entropy(model(images), data.labels[indices]) + penalty(model)
            loss.backward()
            optimizer.step()
        after_epoch(epoch)
    return model


def nothing(epoch: int) -> None:
    """Leave everything as it is."""


def l2_to(start: dict[str, Tensor], strength: float) -> Penalty:
    def penalty(model: nn.Module) -> Tensor:
        each = [((parameter - start[name]) ** 2).sum() for name, parameter in model.named_parameters()]
        return strength / 2 * torch.stack(each).sum()

    return penalty


def scope_to(target: Callable[[str], Normal], strength: float) -> Penalty:
    """`strength` times the sum over layers of the divergence of their normal distributions."""

    def penalty(model: nn.Module) -> Tensor:
        layers = {name: p for name, p in model.named_parameters() if p.ndim > 1}
        each = [kl_divergence(Normal(p.mean(), p.std(correction=0)), target(name)) for name, p in layers.items()]
        return strength * torch.stack(each).sum()

    return penalty


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 2e-6) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def test_penalties_are_those_of_a_loss_that_adds_them() -> None:
    start = {name: tensor.clone() for name, tensor in small().state_dict().items()}
    of_start = {
        name: Normal(tensor.mean(), tensor.std(correction=0)) for name, tensor in start.items() if tensor.ndim > 1
    }
    fixed = Normal(torch.tensor(0.01), torch.tensor(0.1))
    penalties: dict[str, Penalty] = {
        "l2_start": l2_to(start, 0.3),
        "scope of the start": scope_to(of_start.__getitem__, 3.0),
        "fixed scope": scope_to(lambda _: fixed, 0.5),
    }
    without = ours({}).state
    for name, penalty in penalties.items():
        found = ours(CASES[name]).state
        assert_close(found, plain_loop(small(), penalty, nothing, nothing).state_dict())
        assert max(float((found[key] - tensor).abs().max()) for key, tensor in without.items()) > 0.01


def test_scopes_stay_where_the_penalty_holds_them() -> None:
    start = small().state_dict()
    found = {strength: ours({"scope": {"target": "start", "strength": strength}}) for strength in (1e-9, 0.3, 3.0)}
    for name in ("conv1.weight", "conv2.weight"):
        gaps = [abs(math.log(float(each.state[name].std() / start[name].std()))) for each in found.values()]
        assert gaps[0] > gaps[1] > gaps[2]


def test_the_penalty_stays_out_of_the_loss_and_of_clipping() -> None:
    pulled = ours({"l2_start": 1000.0, "lr": 1e-4, "clip_grad_norm": 1e-9, "momentum": 0.0, "weight_decay": 0.0})
    assert_close({"head.weight": pulled.state["head.weight"]}, {"head.weight": small().state_dict()["head.weight"]})
    assert pulled.curve[0].train_loss < 3


def test_a_new_head_is_not_drawn_to_its_first_weights() -> None:
    tied = {"l2_start": 1.0, "scope": {"target": "start", "strength": 3.0}}
    start = small().state_dict()
    moved = {new: (ours(tied, has_new_head=new).state["head.weight"] - start["head.weight"]).norm() for new in (0, 1)}
    assert moved[1] > 3 * moved[0]
    free = (ours({}).state["conv1.weight"] - start["conv1.weight"]).norm()
    for new in (False, True):
        assert (ours(tied, has_new_head=new).state["conv1.weight"] - start["conv1.weight"]).norm() < free * 0.6


def test_what_is_frozen_is_as_it_was_bit_for_bit_and_its_batch_norm_too() -> None:
    model = small()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def frozen(epoch: int) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith("conv1.") and not name.endswith("bias"))

    found = ours(CASES["freeze"]).state
    assert states_equal(found, plain_loop(model, lambda _: 0.0, frozen, nothing).state_dict())
    changed = {name for name, tensor in found.items() if not torch.equal(tensor, start[name])}
    assert not {"conv1.weight", "norm1.bias", "head.bias"} & changed
    assert {"conv2.weight", "norm1.weight", "norm1.running_mean", "head.weight"} <= changed, "norm1 is not all frozen"
    body = ours({"freeze": ("body",)}).state
    assert {name for name, each in body.items() if not torch.equal(each, start[name])} == {"head.weight", "head.bias"}
    norms = ours({"freeze": ("norm1.*",)}).state
    assert states_equal({n: norms[n] for n in norms if "norm1." in n}, start)
    assert not torch.equal(norms["norm2.running_mean"], start["norm2.running_mean"])
    bare = ours({"freeze": ("norm2.running_mean", "head.bias")}).state
    assert torch.equal(bare["norm2.running_var"], start["norm2.running_var"])


def test_a_linear_probe_comes_before_the_training_of_everything() -> None:
    model = small()
    probed = dict[str, Tensor]()

    def prepare(epoch: int) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(epoch >= 2 or name.startswith("head."))
        model.norm1.train(epoch >= 2)
        model.norm2.train(epoch >= 2)

    def after(epoch: int) -> None:
        if epoch == 1:
            probed.update({name: tensor.clone() for name, tensor in model.state_dict().items()})

    found = ours({"linear_probe_epochs": 2}).state
    assert states_equal(found, plain_loop(model, lambda _: 0.0, prepare, after).state_dict())
    start = small().state_dict()
    assert all(torch.equal(tensor, start[name]) for name, tensor in probed.items() if not name.startswith("head."))
    assert not torch.equal(found["conv1.weight"], start["conv1.weight"])


def batch_statistics(model: nn.Module, seed: int = SEED) -> dict[str, Tensor]:
    """Means over the batches of a fifth epoch, weighted by their sizes, of what reaches each batch norm."""
    data = splits()["train"]
    found = dict[str, Tensor]()
    model.eval()
    for name, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.train()
            norm.momentum = 0.0

            def add(_: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
                rows = inputs[0].transpose(0, 1).flatten(1)
                share = len(inputs[0]) / len(data.labels)
                for key, value in (("mean", rows.mean(1)), ("var", rows.var(1))):
                    key = f"{name}.running_{key}"
                    found[key] = found.get(key, torch.zeros(4)) + share * value

            norm.register_forward_pre_hook(add)
    with torch.no_grad():
        for indices in batches(data, EPOCHS, seed):
            model((torch.as_tensor(data.images[indices]).float() - 127.0) / 64.0)
    return found


def test_the_average_is_torchs_own_with_running_statistics_of_its_own() -> None:
    model = small()
    average = AveragedModel(model)
    counted = []

    def after(epoch: int) -> None:
        if epoch + 1 in (2, 4):  # the first after a share of 0.34 of four epochs, and every second
            average.update_parameters(model)
            counted.append(epoch)

    plain_loop(model, lambda _: 0.0, nothing, after)
    assert len(counted) == 2
    found = ours(CASES["swa"])
    expected = {**average.module.state_dict(), **batch_statistics(average.module)}
    floats = [{name: tensor for name, tensor in each.items() if tensor.ndim} for each in (found.state, expected)]
    assert_close(*floats)
    own = small()
    own.load_state_dict(found.state)
    data = splits()["validation"]
    logits = own.eval()((torch.as_tensor(data.images[:]).float() - 127.0) / 64.0).detach()
    assert found.best.epoch == EPOCHS == len(found.curve)
    assert found.best.validation_cross_entropy == pytest.approx(
        float(functional.cross_entropy(logits, data.labels)), abs=1e-6
    )
    assert found.best.validation_accuracy == float((logits.argmax(1) == data.labels).float().mean())
    plain = ours({})
    assert [each.train_loss for each in found.curve] == [each.train_loss for each in plain.curve]


@pytest.mark.parametrize(
    ("swa", "epochs", "expected"),
    [
        ({"from": 0.75}, 4, [4]),
        ({"from": 0.75}, 10, [8, 9, 10]),
        ({"from": 8}, 10, [8, 9, 10]),
        ({"from": 0, "every": 3}, 7, [1, 4, 7]),
        ({"from": 0.29}, 100, list(range(30, 101))),
        ({"from": 0.99999999}, 3, [3]),
        ({"from": 1}, 2, [1, 2]),
        (None, 5, []),
    ],
)
def test_epochs_that_count(swa: dict[str, Any] | None, epochs: int, expected: list[int]) -> None:
    assert list(Recipe(epochs=epochs, swa=swa).averaged_epochs) == expected


def test_an_average_of_one_epoch_without_batch_norm_is_that_epoch() -> None:
    def network() -> nn.Module:
        with fork_rng(0):
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    recipe = Recipe(epochs=2, batch_size=BATCH)
    last = train(network(), splits(), recipe, 1, epochs=2)
    average = train(network(), splits(), Recipe(epochs=2, batch_size=BATCH, swa={"from": 2}), 1, epochs=2)
    assert states_equal(last.state, average.state)
    assert dataclasses.replace(average.best, seconds=0.0) == dataclasses.replace(last.best, seconds=0.0)


def test_frozen_batch_norms_keep_their_statistics_in_the_average() -> None:
    found = ours({"swa": {"from": 2}, "freeze": ("norm1.*",)}).state
    start = small().state_dict()
    assert torch.equal(found["norm1.running_mean"], start["norm1.running_mean"])
    assert not torch.equal(found["norm2.running_mean"], start["norm2.running_mean"])


@pytest.mark.parametrize("case", CASES)
def test_a_group_is_trained_as_its_members_are_alone(case: str) -> None:
    settings = CASES[case]
    dropout = settings.get("dropout", 0.0)
    alone = [ours(settings, seed) for seed in range(2)]
    recipe = Recipe(**PLAIN | {"epochs": EPOCHS} | {k: v for k, v in settings.items() if k != "dropout"})
    models = [small(seed, dropout) for seed in range(2)]
    found = train_vmapped(models, splits(), recipe, [SEED, SEED + 1], epochs=EPOCHS)
    check_vmappable(small, recipe.model_copy(update={"vmap_members": 2}), (3, 1, 8))
    for one, other in zip(alone, found, strict=True):
        assert isinstance(other, TrainResult)
        assert_close(other.state, one.state, 2e-4)
        assert other.best.epoch == one.best.epoch
        assert other.best.validation_cross_entropy == pytest.approx(one.best.validation_cross_entropy, abs=1e-3)
    assert not torch.equal(alone[0].state["head.weight"], alone[1].state["head.weight"])


def test_new_heads_of_a_group_are_free_as_alone() -> None:
    settings = {"l2_start": 0.5, "scope": {"target": "start", "strength": 1.0}}
    recipe = Recipe(**PLAIN, epochs=EPOCHS, **settings)
    seeds = [SEED, SEED + 1]
    found = train_vmapped([small(0), small(1)], splits(), recipe, seeds, epochs=EPOCHS, has_new_heads=True)
    for seed, other in enumerate(found):
        assert isinstance(other, TrainResult)
        assert_close(other.state, ours(settings, seed, has_new_head=True).state, 2e-4)


def test_new_heads_of_a_sweep_are_free_and_heads_of_the_start_are_not(tmp_path: Path, caches: Path) -> None:
    of_timm(caches, "test_resnet")
    moved = {}
    for new_heads in (False, True):
        train_settings = {"epochs": 6, "batch_size": 8, "lr": 1e-3, "l2_start": 1000.0, "schedule": "constant"}
        plan = planned(
            {"architecture": {"timm": {"name": "test_resnet", "pretrained": True}}, "start": "pretrained"}
            | {"new_heads": new_heads, "members": 1, "train": train_settings | {"momentum": 0, "warmup": 0}},
            dataset={"synthetic": {"classes": 3, "examples": 40, "size": 32}},
        )
        folder = RunFolder(tmp_path / str(new_heads))
        folder.create({"schema_version": 1})
        dataset = load_dataset(plan.pools[0].population.dataset)
        for one in [*plan.starts, *plan.members]:
            train_group(TrainingGroup((one,), (one,)), "t", dataset, folder, "cpu")
        [member] = plan.members
        model = build_member_model(member.population.architecture, dataset.shape, member.init_seed)
        reset_head(model, 3, member.init_seed)
        drawn = model.state_dict() if new_heads else folder.load_weights(plan.starts[0].id)
        name = f"{find_head(model, 3)}.weight"
        moved[new_heads] = float((folder.load_weights(member.id)[name] - drawn[name]).norm())
    assert moved[True] > 4 * moved[False] > 0, "each step leads back to the start, but for the new head"


def test_an_average_beyond_all_numbers_is_an_error() -> None:
    history = TrainingHistory(Recipe(epochs=2, swa={"from": 1}))
    history.add(Epoch(1, 0.1, 1.0, 0.5, 1.0, 0.0), dict)
    with pytest.raises(NonFiniteError, match="non-finite outputs of the averaged weights"):
        history.finish_average({}, 0.5, math.nan)
