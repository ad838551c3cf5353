"""Warnings for few pools, and the bootstrap-t interval: by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.inference.estimate import pool_mean
from analysis.inference.few import chance, dominated, largest_share, near_ceiling
from analysis.inference.resampling import bootstrap_t


@pytest.mark.parametrize("n", [5, 8, 12, 20])
def test_a_dominating_pool_is_named_in_at_most_one_of_twenty_normal_samples(n: int) -> None:
    values = np.random.default_rng(n).normal(0, 1, (20_000, n))
    squares = (values - values.mean(axis=1, keepdims=True)) ** 2
    share = squares.max(axis=1) / squares.sum(axis=1)
    limit = largest_share(n)
    assert (share > 0.5).mean() == pytest.approx(chance(n, 0.5), abs=0.012)
    assert (share > limit).mean() == pytest.approx(min(0.05, chance(n, 0.5)), abs=0.005)
    found = [bool(dominated(one)) for one in values[:300]]
    assert found == (share[:300] > limit).tolist()


@pytest.mark.parametrize("n", range(5, 41))
def test_the_limit_is_that_of_grubbs_where_it_is_above_half(n: int) -> None:
    t = stats.t.isf(0.05 / (2 * n), n - 2)
    statistic = (n - 1) / math.sqrt(n) * math.sqrt(t**2 / (n - 2 + t**2))
    limit = largest_share(n)
    assert limit == pytest.approx(max(0.5, statistic**2 / (n - 1)))
    assert chance(n, limit) == pytest.approx(n * stats.beta.sf(limit * n / (n - 1), 0.5, (n - 2) / 2))
    assert chance(n, limit) <= 0.05 + 1e-9
    assert (limit > 0.5) == (n < 14)


def test_a_pool_that_collapses_is_named() -> None:
    values = [0.01, 0.02, 0.015, 0.012, -0.2]
    assert pool_mean(values).warnings == ("one of 5 pools has 80% of the spread (more than 74%: 5% by chance)",)
    assert pool_mean(values[:4]).warnings == ()
    assert pool_mean([0.01, 0.02, 0.03, 0.04, 0.05, 0.06]).warnings == ()
    assert dominated(np.full(6, 0.3)) == ()
    assert dominated(np.array([*range(19), 60.0])) == (
        "one of 20 pools has 77% of the spread (more than 50%: 0.59% by chance)",
    )


def test_an_accuracy_above_97_percent_is_near_the_ceiling() -> None:
    assert near_ceiling([0.96, 0.97]) == ()
    assert "mean accuracy 98.0%" in near_ceiling([0.97, 0.99, math.nan])[0]
    assert near_ceiling([0.99], "brier") == ()
    assert near_ceiling([]) == ()


def test_the_bootstrap_is_that_of_plain_loops() -> None:
    values = np.array([0.3, -0.1, 0.8, 0.2, 0.15, 2.0, 0.4])
    low, high = bootstrap_t([values], [1.0])
    random = np.random.default_rng(1)
    found = []
    for _ in range(20_000):
        one = random.choice(values, 7)
        if one.std() > 0:
            found.append((one.mean() - values.mean()) / (one.std(ddof=1) / math.sqrt(7)))
    expected = np.quantile(found, [0.025, 0.975])
    np.testing.assert_allclose((low, high), expected, rtol=0.15)
    assert bootstrap_t([values[::-1]], [1.0]) == (low, high)
    # Twice the values have the same studentised mean.
    np.testing.assert_allclose(bootstrap_t([2 * values], [0.5]), (low, high), rtol=1e-9)


def test_the_bootstrap_needs_six_pools_with_spread() -> None:
    assert np.isnan(bootstrap_t([np.arange(5.0)], [1.0])).all()
    assert np.isnan(bootstrap_t([np.arange(8.0), np.arange(3.0)], [0.5, 0.5])).all()
    assert np.isnan(bootstrap_t([np.ones(8)], [1.0])).all()
    assert np.isnan(bootstrap_t([], [])).all()
    low, high = bootstrap_t([np.arange(8.0), np.arange(6.0) ** 2], [0.5, -0.5])
    assert low < 0 < high
