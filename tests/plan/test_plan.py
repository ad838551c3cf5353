"""The plan is the same everywhere, grows without renaming what is there, and holds every candidate once."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.config.document import Document
from sweep.config.loader import check
from sweep.core.ids import content_id
from sweep.plan.candidates import NO_BLOCKS, PendingCandidates, PlannedBlocks, parse_hex_ids
from sweep.plan.planner import make_plan
from tests.helpers.plans import VALUES, ids, members, planned, with_population

SCRIPT = """
import json, sys
from sweep.config.loader import check
from sweep.config.document import parse
from sweep.plan.planner import make_plan
plan = make_plan(check(parse(sys.stdin.read(), "f.yaml")))
seeds = [[m.id, m.init_seed, m.order_seed] for m in plan.starts + plan.members]
print(json.dumps([plan.sweep.id, seeds, [[c.id, c.block] for c in plan.candidates]]))
"""


def shuffled(value: Any) -> Any:
    """The same value, the keys of every mapping the other way round."""
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def test_ids_are_the_same_in_another_process_and_order_of_keys() -> None:
    plan = planned()
    expected = [
        plan.sweep.id,
        [[m.id, m.init_seed, m.order_seed] for m in plan.starts + plan.members],
        [[c.id, c.block] for c in plan.candidates],
    ]
    for seed, values in (("1", VALUES), ("4242", shuffled(VALUES))):
        found = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            input=json.dumps(values),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(found.stdout) == expected


SUBSETS = VALUES["subsets"]
GROWN = {
    "pools": with_population(pools=5),
    "populations": VALUES | {"populations": [{"architecture": "cnn"}, *VALUES["populations"]]},
    "sizes": VALUES | {"subsets": SUBSETS | {"sizes": [3, 4, 2]}},
    "per_size": VALUES | {"subsets": SUBSETS | {"per_size": 5}},
    "prefixes": VALUES | {"subsets": SUBSETS | {"prefixes": [2, 3, 4]}},
    "pairs": VALUES | {"subsets": SUBSETS | {"pairs": 4}},
    "all pairs": VALUES | {"subsets": SUBSETS | {"pairs": "all"}},
    "methods": VALUES | {"methods": ["greedy_soup", *VALUES["methods"]]},
    "scalings": VALUES | {"scalings": [{"magnify": {"factor": [0.5, 2]}}, "none"]},
    "protocols": VALUES | {"protocols": ["train_mode", "correct", {"combined": ["train_mode", "scale_buffers"]}]},
    "grids": VALUES | {"grids": [{"methods": "greedy_soup"}, {}]},
}


@pytest.mark.parametrize("what", GROWN)
def test_a_sweep_grows_without_renaming_what_is_there(what: str) -> None:
    plan = planned()
    grown = planned(GROWN[what])
    assert members(plan) <= members(grown)
    assert set(ids(plan)) < set(ids(grown))


@given(st.integers(4, 9), st.integers(2, 4))
@settings(max_examples=15, deadline=None)
def test_more_members_rename_none(count: int, pools: int) -> None:
    plan = planned()
    grown = planned(with_population(members=count, pools=pools))
    assert members(plan) <= members(grown)
    assert {pool.id for pool in plan.pools} <= {pool.id for pool in grown.pools}
    every = {"subsets": {"pairs": "all", "prefixes": [2, 4]}}
    more = with_population(members=count, pools=pools) | every
    assert set(ids(planned(VALUES | every))) <= set(ids(planned(more)))


def test_members_share_what_their_start_says() -> None:
    plan = planned()
    for pool in plan.pools:
        assert (pool.start is None) == (pool.population.start == "scratch")
        assert [member.index for member in pool.members] == list(range(pool.population.members))
        assert len({member.order_seed for member in pool.members}) == len(pool.members)
        if pool.start:
            assert {member.start_id for member in pool.members} == {pool.start.id}
            assert {member.init_seed for member in pool.members} == {pool.start.init_seed}
        else:
            assert len({member.init_seed for member in pool.members}) == len(pool.members)
    assert len({member.id for member in [*plan.starts, *plan.members]}) == len(plan.starts) + len(plan.members)


METHODS = st.lists(st.sampled_from(VALUES["methods"]), min_size=1, unique_by=str)


@given(METHODS, st.integers(1, 200), st.integers(1, 3), st.data())
@settings(max_examples=40, deadline=None)
def test_every_candidate_is_in_one_block_and_keeps_it(
    methods: list[Any], block: int, pools: int, data: st.DataObject
) -> None:
    small = planned(with_population(pools=pools), methods=methods, execution={"block_size": block})
    assert len(set(ids(small))) == len(ids(small)) > 0
    assert sorted(itertools.chain.from_iterable(small.blocks.values())) == sorted(small.candidates, key=lambda c: c)
    for name, stored in small.blocks.items():
        assert name == content_id("block", [candidate.id for candidate in stored])
        assert len({candidate.pool_id for candidate in stored}) == 1
        assert stored.costs[:-1].sum() < block
    kept = data.draw(st.sets(st.sampled_from(small.candidates), max_size=20))
    known = {candidate.id: candidate.block for candidate in kept}
    stored = np.arange(len(known), dtype=np.int32)
    message = (
        PlannedBlocks.from_columns(parse_hex_ids(list(known)), stored, list(known.values())) if known else NO_BLOCKS
    )
    grown = make_plan(check(Document("f.yaml", with_population(pools=3))), known=message)
    for candidate in grown.candidates:
        assert known.get(candidate.id, candidate.block) == candidate.block
    assert set(known) <= set(ids(grown))
    new = {candidate.block for candidate in grown.candidates if candidate.id not in known}
    assert not new & set(known.values()) or new <= set(small.blocks)


def test_candidates_are_the_same_however_they_are_looked_at() -> None:
    candidates = planned().candidates
    made = list(candidates)
    assert made == [candidates[index] for index in range(len(candidates))]
    assert (candidates[-1], list(candidates[3:9])) == (made[-1], made[3:9])
    assert candidates.costs.tolist() == [1.0 if candidate.method.space == "weights" else 0.02 for candidate in made]
    soups = candidates.where(lambda factors: factors.method.name == "uniform_soup")
    assert list(soups) == [candidate for candidate in made if candidate.method.name == "uniform_soup"]
    for digits in range(33):
        prefix = made[5].id[:digits]
        assert list(candidates.with_prefix(prefix)) == [each for each in made if each.id.startswith(prefix)]
    lacking = np.random.default_rng(0).random((len(made), 2)) < 0.5
    todo = PendingCandidates(candidates, ("validation", "test"), lacking)
    expected = [(c, tuple(np.array(todo.splits)[own])) for c, own in zip(made, lacking, strict=True)]
    assert list(todo) == pickle.loads(pickle.dumps(todo)) == expected
    assert list(todo[2:7]) == expected[2:7]
    assert [pair for each in todo.by_block().values() for pair in each] == expected


def test_outputs_are_neither_aligned_nor_repaired() -> None:
    for candidate in planned().candidates:
        if candidate.method.space != "weights" or candidate.method.name == "single":
            assert candidate.alignment.name == "none"
        if candidate.method.plugin.arity:
            assert len(candidate.subset) == candidate.method.plugin.arity


def test_aligned_candidates_of_a_subset_are_neighbours() -> None:
    """And come last: whoever aligns a subset is done with it before the next."""
    steps = {"alignments": ["none", "weight_matching"], "repairs": ["none", "reset_bn"]}
    methods = ["uniform_soup", "greedy_soup", {"interpolation": {"weight": [0, 0.5, 1]}}, "logit_average"]
    plan = planned({**VALUES, "methods": methods, **steps})
    for pool in plan.pools:
        mine = [each for each in plan.candidates if each.pool_id == pool.id]
        aligned = [each.alignment.name != "none" for each in mine]
        assert aligned == sorted(aligned)
        subsets = [each.subset for each, is_aligned in zip(mine, aligned, strict=True) if is_aligned]
        runs = [subset for subset, _ in itertools.groupby(subsets)]
        assert len(subsets) > len(runs) == len(set(runs)) > 1


def test_a_hundred_thousand_candidates_are_planned() -> None:
    values = {
        "name": "many",
        "populations": [{"architecture": "linear", "pools": 10, "members": 30}],
        "subsets": {"sizes": [5], "per_size": 2000},
        "methods": [
            "uniform_soup",
            "logit_average",
            "probability_average",
            {"feature_average": {"head": ["first", "average"]}},
        ],
    }
    plan = planned(values)
    assert len(plan.candidates) == len(set(ids(plan))) == 10 * (5 * 2000 + 30)
    assert sum(map(len, plan.blocks.values())) == len(plan.candidates)
