"""Subsets: drawn evenly, each once, the same however many are drawn and whatever is merged."""

from __future__ import annotations

import itertools
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.config.spec import Subsets
from sweep.plan.subsets import draw_subsets, subsets
from tests.helpers.plans import VALUES, planned


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 80), st.integers(0, 80), st.integers())
@settings(max_examples=150, deadline=None)
def test_drawn_subsets(count: int, size: int, draws: int, more: int, seed: int) -> None:
    drawn = draw_subsets(count, size, draws, seed)
    total = math.comb(count, size)
    assert len(set(drawn)) == len(drawn) == min(draws, total)
    for subset in drawn:
        assert len(subset) == size
        assert list(subset) == sorted(set(subset))
        assert set(subset) <= set(range(count))
    assert draw_subsets(count, size, draws + more, seed)[: len(drawn)] == drawn
    if draws >= total:
        assert set(drawn) == set(itertools.combinations(range(count), size))


def test_subsets_of_a_large_pool_are_drawn() -> None:
    drawn = draw_subsets(1000, 500, 3, 0)
    assert len(set(drawn)) == 3
    assert all(len(subset) == 500 for subset in drawn)
    assert draw_subsets(1000, 500, 3, 1) != drawn


def test_subsets_are_drawn_evenly() -> None:
    """Each of the 10 pairs of 5 comes first about as often: 1,000 seeds, five standard deviations."""
    first = [draw_subsets(5, 2, 1, seed)[0] for seed in range(1000)]
    for pair in itertools.combinations(range(5), 2):
        assert abs(first.count(pair) - 100) < 5 * math.sqrt(1000 * 0.1 * 0.9)


@given(
    st.integers(1, 8),
    st.lists(st.integers(1, 8), max_size=4),
    st.just("all") | st.integers(0, 40),
    st.lists(st.integers(1, 8), max_size=3),
    st.integers(1, 30),
)
@settings(max_examples=100, deadline=None)
def test_subsets_hold_pairs_prefixes_and_draws(
    count: int, sizes: list[int], pairs: Any, prefixes: list[int], per_size: int
) -> None:
    sizes, prefixes = ([size for size in each if size <= count] for each in (sizes, prefixes))
    wanted = Subsets(sizes=tuple(sizes), pairs=pairs, prefixes=tuple(prefixes), per_size=per_size)
    found = subsets(wanted, 0, count)
    assert found == sorted(set(found), key=lambda subset: (len(subset), subset))
    assert {tuple(range(size)) for size in prefixes} <= set(found)
    every = math.comb(count, 2)
    of_two = [subset for subset in found if len(subset) == 2]
    if pairs == "all":
        assert len(of_two) == every
    else:
        assert len(of_two) >= min(pairs, every)
    for size in sizes:
        assert sum(len(subset) == size for subset in found) >= min(per_size, math.comb(count, size))
    assert {len(subset) for subset in found} <= {*sizes, *prefixes} | ({2} if pairs else set())


def test_pools_of_one_place_draw_the_same_subsets() -> None:
    first, second = ({**VALUES["populations"][0], "architecture": name} for name in ("mlp", "cnn"))
    plan = planned(VALUES | {"populations": [first, second]})
    drawn = {
        (pool.population.name, pool.index): [c.subset for c in plan.candidates if c.pool_id == pool.id]
        for pool in plan.pools
    }
    names = [population.name for population in plan.sweep.populations]
    for index in range(2):
        assert drawn[names[0], index] == drawn[names[1], index]
    assert drawn[names[0], 0] != drawn[names[0], 1]
