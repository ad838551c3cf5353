"""Repairs: laws over the folder, and against plain computations in torch."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sweep.core.choice import PluginConfig
from sweep.core.ids import canonical_json, derive_seed
from sweep.core.registry import get_plugin, list_plugins
from sweep.evaluation.engine import PoolEngine
from sweep.evaluation.merge import load_merge
from sweep.model.layout import make_layout, unflatten_state_dict
from sweep.model.split import to_device
from sweep.plan.candidates import Candidate
from sweep.training.trainer import train
from tests.helpers import ROOT
from tests.helpers.audits import NORMED
from tests.helpers.engine import Trained, trained
from tests.helpers.plain_loop import CNN, plain_mean

RESCALE = "rescale_activations"
MLP = "{mlp: {hidden: [24, 16], dropout: 0}}"
REPAIRS = sorted({*list_plugins("repairs")} - {"none"})
every_repair = pytest.mark.parametrize("repair", REPAIRS)


@cache
def settled(architecture: str) -> Trained:
    """A pool of members that were trained on their own until they know the digits: averages of them do not."""
    pool = trained(architecture, "scratch")
    splits = {name: to_device(pool.dataset, name, torch.device("cpu")) for name in ("train", "validation")}
    recipe = pool.pool.population.recipe
    members = zip(pool.states, pool.pool.members, strict=True)
    states = [train(pool.model(state), splits, recipe, member.order_seed, epochs=10).state for state, member in members]
    return replace(pool, states=tuple(states))


def repaired(
    pool: Trained, repair: str, method: str, *subset: int, weight: float | None = None, **settings: Any
) -> Candidate:
    own = {} if weight is None else {"weight": weight}
    chosen = PluginConfig("repairs", repair, get_plugin("repairs", repair).validate(settings))
    return pool.candidate(method, *subset, **own)._replace(repair=chosen)


def repaired_weights(bench: PoolEngine, candidate: Candidate) -> Tensor:
    """All weights and running statistics, as they are evaluated."""
    load_merge(bench, candidate)
    return bench.flat_weights.clone()


def model_with(pool: Trained, row: Tensor) -> nn.Module:
    model = pool.model()
    model.load_state_dict(unflatten_state_dict(row, make_layout(model, 10), {}), strict=False)
    return model.eval()


def training_images(pool: Trained) -> Tensor:
    split = to_device(pool.dataset, "train", torch.device("cpu"))
    return split.normalize(split.images[:])


def put_out(model: nn.Module, images: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    """What layers put out, (values, channels) each."""
    outputs: list[Tensor] = []
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda _m, _i, out: outputs.append(out.clone()))
    with torch.no_grad():
        model(images)
    return [out.movedim(1, -1).flatten(0, -2) for out in outputs]


@every_repair
@pytest.mark.parametrize("architecture", [NORMED, CNN])
def test_nothing_but_the_merge_changes_and_what_is_drawn_is_the_pools(repair: str, architecture: str) -> None:
    """Neither order, nor neighbours, nor the batches of the evaluation change a bit."""
    pool = trained(architecture)
    work = [repaired(pool, repair, method, *subset, examples=100, batch=40) for method, subset in SUBSETS]
    work.append(repaired(pool, repair, "uniform_soup", 0, 1, examples=60))
    one = pool.engine(256)
    other = pool.engine(7)
    one.model.eval()
    before = [hashlib.sha256(bench.matrix.numpy().tobytes()).hexdigest() for bench in (one, other)]
    modules = [(module.training, getattr(module, "momentum", None)) for module in one.model.modules()]
    counters = {name: value.clone() for name, value in one.model.named_buffers() if not value.is_floating_point()}
    first = [repaired_weights(one, each) for each in work]
    again = [repaired_weights(other, each) for each in reversed(work)]
    assert all(torch.equal(found, same) for found, same in zip(first, reversed(again), strict=True))
    assert [hashlib.sha256(bench.matrix.numpy().tobytes()).hexdigest() for bench in (one, other)] == before
    assert [(module.training, getattr(module, "momentum", None)) for module in one.model.modules()] == modules
    assert all(torch.equal(value, one.model.get_buffer(name)) for name, value in counters.items())


SUBSETS = (("uniform_soup", (0, 1)), ("uniform_soup", (0, 1, 2)), ("greedy_soup", (0, 1, 2)), ("single", (1,)))
BITS = """
import torch
from tests.plugins.test_repairs import REPAIRS, digest
torch.set_num_threads(1)
print(*map(digest, REPAIRS))
"""


def digest(repair: str) -> str:
    pool = trained(NORMED)
    row = repaired_weights(pool.engine(), repaired(pool, repair, "uniform_soup", 0, 2))
    return hashlib.sha256(row.numpy().tobytes()).hexdigest()


def test_another_process_gives_the_same_bits() -> None:
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", BITS], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [digest(repair) for repair in REPAIRS]


@pytest.mark.parametrize(("examples", "batch"), [(1000, 250), (90, 90), (2000, 2000)])
def test_reset_bn_is_what_torch_estimates_with_momentum_none(examples: int, batch: int) -> None:
    pool = settled(NORMED)
    candidate = repaired(pool, "reset_bn", "uniform_soup", 0, 1, 2, examples=examples, batch=batch)
    found = repaired_weights(pool.engine(), candidate)
    images = training_images(pool)
    seed = derive_seed(pool.pool.id, "repair", canonical_json(candidate.repair.id_content))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:examples]
    plain = pool.model(plain_mean([{n: t.float() for n, t in state.items()} for state in pool.states]))
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = None
            module.reset_running_stats()
    plain.train()
    with torch.no_grad():
        for chosen in order.split(batch):
            plain(images[chosen])
    for name, tensor in plain.state_dict().items():
        if not name.endswith("tracked"):
            torch.testing.assert_close(model_with(pool, found).state_dict()[name], tensor, atol=1e-5, rtol=1e-5)


def test_batches_of_any_size_count_by_their_examples() -> None:
    """By hand, for the first layer: 1,003 images in batches of 251, 251, 251 and 250."""
    pool = settled(NORMED)
    candidate = repaired(pool, "reset_bn", "uniform_soup", 0, 1, examples=1003, batch=250)
    state = model_with(pool, repaired_weights(pool.engine(), candidate)).state_dict()
    seed = derive_seed(pool.pool.id, "repair", canonical_json(candidate.repair.id_content))
    images = training_images(pool).flatten(1)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    hidden = (images @ state["layers.0.weight"].T + state["layers.0.bias"])[order].double()
    batches = [hidden[:251], hidden[251:502], hidden[502:753], hidden[753:1003]]
    mean = sum(batch.sum(0) for batch in batches) / 1003
    variance = sum(len(batch) * batch.var(0) for batch in batches) / 1003
    torch.testing.assert_close(state["layers.1.running_mean"].double(), mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(state["layers.1.running_var"].double(), variance, atol=1e-6, rtol=1e-5)


@every_repair
def test_soups_that_collapsed_are_raised(repair: str) -> None:
    pool = settled("{mlp_bn: {hidden: [64, 64], dropout: 0}}")
    evaluator = pool.evaluator()
    none, found = (
        evaluator.evaluate(repaired(pool, each, "uniform_soup", 0, 1, 2), ("test",))[0][0] for each in ("none", repair)
    )
    assert none["accuracy"] < 0.5
    assert found["accuracy"] > none["accuracy"] + 0.3
    assert found["forward_passes"] > none["forward_passes"]


def test_soups_without_batch_norm_are_raised_by_rescaling_and_untouched_by_reset_bn() -> None:
    pool = settled(CNN)
    bench = pool.engine()
    plain = repaired_weights(bench, repaired(pool, "none", "uniform_soup", 0, 1))
    assert torch.equal(repaired_weights(bench, repaired(pool, "reset_bn", "uniform_soup", 0, 1)), plain)
    assert bench.forward_passes == 0
    accuracy = [
        pool.evaluator().evaluate(repaired(pool, each, "uniform_soup", 0, 1), ("test",))[0][0]["accuracy"]
        for each in ("none", RESCALE)
    ]
    assert accuracy[1] > accuracy[0] + 0.1


CORRECTED = {
    NORMED: ("layers.1", "layers.5"),
    MLP: ("layers.0", "layers.3"),
    CNN: ("conv1", "conv2", "conv3", "fc1"),
}


@pytest.mark.parametrize("weight", [0.5, 0.2])
@pytest.mark.parametrize("architecture", CORRECTED)
def test_corrected_layers_have_the_members_mean_and_spread(architecture: str, weight: float) -> None:
    pool = settled(architecture)
    images = training_images(settled(architecture))
    candidate = repaired(pool, RESCALE, "interpolation", 0, 1, weight=weight, batch=2000)
    model = model_with(pool, repaired_weights(pool.engine(), candidate))
    layers = CORRECTED[architecture]
    both = zip(*(put_out(pool.model(pool.states[index]), images, layers) for index in (0, 1)), strict=True)
    for found, (first, second) in zip(put_out(model, images, layers), both, strict=True):
        for moment in (torch.mean, torch.std):
            expected = (1 - weight) * moment(first, 0) + weight * moment(second, 0)
            torch.testing.assert_close(moment(found, 0), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("architecture", CORRECTED)
def test_a_merge_that_is_one_member_is_left_as_it_is(architecture: str) -> None:
    pool = settled(architecture)
    copies = replace(pool, states=(pool.states[0],) * 3)
    images, _ = pool.test_split()
    for own, method, subset, weight, index in (
        (copies, "uniform_soup", (0, 1, 2), None, 0),
        (pool, "interpolation", (0, 1), 0, 0),
        (pool, "interpolation", (0, 2), 1, 2),
        (pool, "single", (1,), None, 1),
    ):
        with torch.no_grad():
            expected = pool.model(pool.states[index])(images)
            work = [repaired(own, RESCALE, method, *subset, weight=weight, batch=batch) for batch in (2000, 100)]
            whole, batched = (model_with(own, repaired_weights(own.engine(), each)) for each in work)
            torch.testing.assert_close(whole(images), expected, atol=1e-4, rtol=1e-4)
            assert (batched(images).argmax(1) == expected.argmax(1)).double().mean() > 0.97


def test_a_layer_without_bias_gets_the_spread_and_not_the_mean() -> None:
    pool = settled("{mlp: {hidden: [24, 24], bias: false, dropout: 0}}")
    candidate = repaired(pool, RESCALE, "uniform_soup", 0, 1, batch=2000)
    model = model_with(pool, repaired_weights(pool.engine(), candidate))
    images = training_images(pool)
    (found,), *each = (
        put_out(one, images, ("layers.0",)) for one in (model, *(pool.model(state) for state in pool.states[:2]))
    )
    torch.testing.assert_close(found.std(0), (each[0][0].std(0) + each[1][0].std(0)) / 2, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(found.mean(0), (each[0][0].mean(0) + each[1][0].mean(0)) / 2, atol=1e-2)
