"""A pool of small trained members in memory, for tests of what is done with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from sweep.config.document import parse
from sweep.config.loader import check
from sweep.core.dataset import Dataset, load_dataset
from sweep.evaluation.block import BlockRunner
from sweep.evaluation.engine import PoolEngine, make_engine
from sweep.evaluation.pool_weights import PoolWeights
from sweep.model.build import build_member_model
from sweep.model.split import Batching, to_device
from sweep.plan.candidates import Candidate
from sweep.plan.planner import Plan, make_plan
from sweep.plan.pools import Pool
from sweep.training.trainer import train

METHODS = "[uniform_soup, greedy_soup, logit_average, probability_average, {feature_average: {head: [first, average]}}]"


@dataclass(frozen=True)
class Trained:
    """A planned pool with its members' state dicts."""

    plan: Plan
    pool: Pool
    dataset: Dataset
    states: tuple[dict[str, Tensor], ...]
    start: dict[str, Tensor] | None

    def weights(self) -> PoolWeights:
        return PoolWeights.from_states(self.states, self.start, self.model(), len(self.dataset.classes))

    def model(self, state: dict[str, Tensor] | None = None) -> nn.Module:
        first = self.pool.members[0]
        model = build_member_model(first.population.architecture, self.dataset.shape, first.init_seed).eval()
        if state is not None:
            model.load_state_dict(state)
        return model

    def engine(self, batch: int = 256) -> PoolEngine:
        return make_engine(self.pool, self.weights(), self.dataset, "cpu", Batching(batch))

    def evaluator(self, batch: int = 256) -> BlockRunner:
        return BlockRunner(self.engine(batch), self.pool, "test", ("accuracy", "cross_entropy", "brier", "ece"))

    def test_split(self) -> tuple[Tensor, Tensor]:
        split = to_device(self.dataset, "test", torch.device("cpu"))
        return split.normalize(split.images), split.labels

    def candidate(self, method: str, *subset: int, scaling: str = "none", **settings: object) -> Candidate:
        """The candidate of that method and subset, with a scaling written as in a configuration."""
        return next(
            each
            for each in plan_of(
                self.plan.sweep.populations[0].to_config, f"[{{{method}: {settings}}}]", scaling
            ).candidates
            if each.subset == subset and each.method.name == method and each.pool_id == self.pool.id
        )


def plan_of(population: object, methods: str = METHODS, scaling: str = "none", size: int = 8) -> Plan:
    text = f"""
name: test
dataset: {{digits: {{size: {size}}}}}
populations: [{population}]
subsets: {{sizes: [1, 2, 3], per_size: 100, pairs: all}}
methods: {methods}
scalings: {scaling}
execution: {{mlflow: false}}
"""
    return make_plan(
        check(
            parse(
                text.replace("'", '"').replace("None", "null").replace("True", "true").replace("False", "false"), "test"
            )
        )
    )


@cache
def trained(architecture: str, start: str = "shared", members: int = 3, size: int = 8) -> Trained:
    """A pool of members trained for a moment: enough to differ, not enough to be alike."""
    population = (
        f"{{architecture: {architecture}, start: {start}, members: {members}, train: {{epochs: 1, batch_size: 128}}}}"
    )
    plan = plan_of(population, size=size)
    pool = plan.pools[0]
    dataset = load_dataset(pool.population.dataset)
    splits = {name: to_device(dataset, name, torch.device("cpu")) for name in ("train", "validation")}
    recipe = pool.population.recipe

    def run(member: int, base: dict[str, Tensor] | None) -> dict[str, Tensor]:
        one = pool.start if member < 0 else pool.members[member]
        assert one is not None
        model = build_member_model(one.population.architecture, dataset.shape, one.init_seed)
        if base:
            model.load_state_dict(base)
        return train(model, splits, recipe, one.order_seed, epochs=1).state

    base = run(-1, None) if pool.start else None
    return Trained(plan, pool, dataset, tuple(run(index, base) for index in range(members)), base)
