"""Every method in weight space on networks with batch norm: statistics that can be used, and NaN that stays visible."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sweep.core.choice import PluginConfig
from sweep.core.dataset import load_dataset
from sweep.core.registry import get_plugin, list_plugins
from sweep.evaluation.merge import MergedWeights, make_merge
from sweep.plan.candidates import Candidate
from tests.helpers.engine import Trained, plan_of

NETWORKS = ("{mlp_bn: {hidden: [24, 16]}}", "{timm: {name: test_resnet}}", "{timm: {name: test_efficientnet}}")
IN_WEIGHTS = [name for name in list_plugins("methods") if get_plugin("methods", name).space == "weights"]
EXTREMES: dict[str, list[dict[str, Any]]] = {
    "interpolation": [{"weight": -1}, {"weight": 2}],
    "task_arithmetic": [{"scale": 10}, {"scale": -10}],
    "plane": [{"a": -10, "b": 10}],
    "weighted_soup": [{"weights": (1.0, 0.0, 3.0), "last": (0.0, 1.0, 0.0)}, {"tensors": {"*": (0.0, 0.0, 1.0)}}],
}


@cache
def pool_of(architecture: str) -> Trained:
    """A base and three members near it that nobody trained, with running variances from 0 to 2."""
    population = f"{{architecture: {architecture}, start: shared, members: 3, train: {{epochs: 1}}}}"
    plan = plan_of(population)
    pool = plan.pools[0]
    empty = Trained(plan, pool, load_dataset(pool.population.dataset), (), None)
    base = {name: tensor.detach().clone() for name, tensor in empty.model().state_dict().items()}
    generator = torch.Generator().manual_seed(1)

    def member() -> dict[str, Tensor]:
        state = {}
        for name, tensor in base.items():
            noise = torch.randn(tensor.shape, generator=generator)
            moved = 2 * torch.rand(tensor.shape, generator=generator) if "running_var" in name else tensor + 0.1 * noise
            state[name] = moved if tensor.is_floating_point() else tensor
        return state

    return replace(empty, states=tuple(member() for _ in range(3)), start=base)


def candidate(pool: Trained, name: str, **settings: Any) -> Candidate:
    plugin = get_plugin("methods", name)
    subset = tuple(range(plugin.arity or 3))
    config = PluginConfig("methods", name, plugin.validate(settings))
    return pool.plan.candidates[0]._replace(subset=subset, method=config, pool_id=pool.pool.id)


def merged_weights(pool: Trained, method: str, **settings: Any) -> Tensor:
    engine = pool.engine()
    merge = make_merge(engine, candidate(pool, method, **settings))
    assert isinstance(merge, MergedWeights)
    merge.load_weights()
    return engine.flat_weights


@pytest.mark.parametrize("architecture", NETWORKS, ids=["mlp_bn", "resnet", "efficientnet"])
def test_running_statistics_can_be_used_for_every_method(architecture: str) -> None:
    pool = pool_of(architecture)
    engine = pool.engine()
    variances = [entry for entry in engine.layout.entries if entry.role == "variance"]
    assert variances
    for name in IN_WEIGHTS:
        for settings in [{}, *EXTREMES.get(name, [])]:
            merge = make_merge(engine, candidate(pool, name, **settings))
            assert isinstance(merge, MergedWeights)
            merge.load_weights()
            assert torch.isfinite(engine.flat_weights).all(), name
            for entry in variances:
                assert (engine.flat_weights[entry.offset : entry.stop] >= 0).all(), name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", IN_WEIGHTS)
def test_a_member_that_is_not_finite_makes_a_merge_that_is_not(name: str, value: float) -> None:
    """Unless a search leaves it out: it scores below all others."""
    pool = pool_of(NETWORKS[0])
    first, *others = pool.states
    tensor = next(iter(first))
    first = {**first, tensor: torch.full_like(first[tensor], value)}
    weights = merged_weights(replace(pool, states=(first, *others)), name)
    is_searched = "score" in get_plugin("methods", name).needs
    assert bool(torch.isfinite(weights).all()) == (is_searched and name != "greedy_indexed")


def test_a_weighted_soup_averages_running_statistics_by_its_weights() -> None:
    pool = pool_of(NETWORKS[0])
    layout = pool.engine().layout
    matrix = torch.from_numpy(pool.weights().matrix)
    found = merged_weights(pool, "weighted_soup", weights=(1.0, 1.0, 2.0))
    torch.testing.assert_close(found, matrix[0] / 4 + matrix[1] / 4 + matrix[2] / 2)
    found = merged_weights(pool, "weighted_soup", weights=(1.0, 0.0, 0.0), last=(0.0, 0.0, 1.0))
    for entry, place in (*((each, 0) for each in layout.entries[:1]), *((each, 2) for each in layout.head if each)):
        columns = slice(entry.offset, entry.stop)
        torch.testing.assert_close(found[columns], matrix[place, columns])


def test_equal_weights_are_the_uniform_soup_and_evaluated_once() -> None:
    pool = pool_of(NETWORKS[0])
    engine = pool.engine()
    first = make_merge(engine, candidate(pool, "uniform_soup"))
    logits, _ = first.logits("test")
    passes = engine.forward_passes
    for settings in ({}, {"weights": (2.0, 2.0, 2.0)}, {"last": (1.0, 1.0, 1.0)}):
        again = make_merge(engine, candidate(pool, "weighted_soup", **settings))
        assert torch.equal(again.logits("test")[0], logits)
    assert engine.forward_passes == passes
