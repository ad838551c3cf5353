"""The published script's protocol as one sweep: every item that it evaluates is in the plan of every pool."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest

from sweep.config.loader import load
from sweep.plan.candidates import Candidate
from sweep.plan.planner import Plan, make_plan
from tests.helpers import ROOT

FILE = ROOT / "configs/paper_protocol.yaml"
PREFIXES = [tuple(range(size)) for size in (2, 3, 5, 7, 10)]
ARMS = ("all", "first", "last", "all_but_first", "all_but_last")
ITEMS = {
    "magnified single": ("single", {}),
    "uniform soup": ("uniform_soup", {}),
    "greedy soup of Wortsman et al.": ("greedy_soup", {}),
    "greedy_soup of the script": ("greedy_halving", {}),
    "greedy_soup_devideLen of the script": ("greedy_indexed", {}),
    "greedy ensemble in logits": ("greedy_ensemble", {"space": "logits"}),
    "greedy ensemble in features": ("greedy_ensemble", {"space": "features"}),
    "ensemble of logits": ("logit_average", {}),
    "ensemble of features with the first head": ("feature_average", {"head": "first"}),
    "ensemble of features with the mean head": ("feature_average", {"head": "average"}),
}
Known = dict[tuple[str, str, str, float], set[tuple[int, ...]]]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load(FILE))


def factor(candidate: Candidate) -> float | None:
    """What the members are multiplied by; None for scalings of another kind."""
    scaling = candidate.scaling
    if scaling.name == "none":
        return 1.0
    return scaling.settings["factor"] if scaling.settings.get("tensors") == "parameters" else None


@pytest.fixture(scope="module")
def known(plan: Plan) -> dict[str, Known]:
    """Per pool, the subsets of every method, settings, arm and factor."""
    found: dict[str, Known] = {pool.id: defaultdict(set) for pool in plan.pools}
    for one in plan.candidates:
        by = factor(one)
        if by is not None:
            arms = ARMS if one.scaling.name == "none" else (str(one.scaling.settings["members"]),)
            for arm in arms:
                found[one.pool_id][one.method.name, one.method.settings_json, arm, by].add(one.subset)
    return found


def magnitudes(of: Known) -> list[float]:
    return sorted({by for *_, by in of})


def test_there_are_pools_enough_of_ten_members(plan: Plan) -> None:
    assert len(plan.pools) >= 5
    assert {len(pool.members) for pool in plan.pools} == {10}


def test_magnitudes_are_a_log_grid_on_both_sides_and_the_published_ones(known: dict[str, Known]) -> None:
    for of in known.values():
        found = magnitudes(of)
        assert {2.0, 10.0, 100.0} <= set(found)
        grid = [by for by in found if 1 / 8 <= by <= 8]
        assert (grid[0], grid[-1]) == (1 / 8, 8.0)
        # Half octaves: a critical factor is then known within 4%.
        steps = [math.log2(b / a) for a, b in itertools.pairwise(grid)]
        assert max(steps) < 0.55


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("item", ITEMS)
def test_every_item_is_there_under_every_magnification(item: str, arm: str, known: dict[str, Known]) -> None:
    name, settings = ITEMS[item]
    for of in known.values():
        written = {key[1] for key in of if key[0] == name}
        (wanted,) = (text for text in written if all(f'"{k}":"{v}"' in text for k, v in settings.items()))
        for by in magnitudes(of):
            subsets = of[name, wanted, arm, by]
            if name == "single":
                assert subsets == {(index,) for index in range(10)}
                continue
            assert set(PREFIXES) <= subsets, by
            for size in (2, 3, 5, 7):
                assert len({one for one in subsets if len(one) == size and one not in PREFIXES}) >= 1, by


def test_spaces_have_many_random_subsets(known: dict[str, Known]) -> None:
    for of in known.values():
        for (name, _, _, by), subsets in of.items():
            if by == 1.0 and name != "single":
                assert all(sum(len(one) == size for one in subsets) >= 20 for size in (2, 3, 5, 7))


def test_both_arms_of_the_norm_have_their_own_subsets(plan: Plan) -> None:
    arms = defaultdict(set)
    for one in plan.candidates:
        norm = one.scaling.settings.get("to", "") if one.scaling.name != "none" else "own"
        arms[one.method.name, norm].add((one.pool_id, one.subset))
    grown = arms["uniform_soup", "members"]
    shrunk = arms["first_member", "soup"]
    assert grown == shrunk <= arms["uniform_soup", "own"]
    assert {(pool.id, prefix) for pool in plan.pools for prefix in ((0, 1, 2), tuple(range(7)))} <= grown
