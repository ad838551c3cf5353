"""Coverage of the stratified bootstrap over pools, for the truth of a simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.inference.stratified_bootstrap import Quantities, bootstrap, cell_mean
from analysis.statistics.improvement_probability import any_pools_wins, same_pool_wins
from analysis.statistics.interquartile_mean import middle_mean

pytestmark = pytest.mark.slow

Array = NDArray[np.float64]
TIMES = 300
STRATA = NDArray[np.object_]


def coverage(
    pools: int, cells: int, statistic: Callable[[Array, STRATA], Array], truth: float, *, shares: bool, seed: int
) -> float:
    """How often the interval contains the truth for two methods with correlated normal scores, the first .5 better."""
    random = np.random.default_rng(seed)
    strata = np.repeat([f"cell{k}" for k in range(cells)], pools).astype(object)
    about = Quantities(["x"], (), (0.0, 1.0) if shares else None)
    covered = 0
    for _ in range(TIMES):
        shared = random.standard_normal((len(strata), 1))
        values = shared + random.standard_normal((len(strata), 2)) + [0.5, 0]
        own = values if shares else values[:, :1]
        (found,) = bootstrap(own, strata, statistic, about)
        covered += found.low <= truth <= found.high
    return covered / TIMES


@pytest.mark.parametrize(("pools", "cells"), [(6, 1), (10, 1), (20, 1), (5, 4)])
def test_interquartile_means_are_covered(pools: int, cells: int) -> None:
    assert 0.91 <= coverage(pools, cells, middle_mean, 0.5, shares=False, seed=0) <= 0.99


def test_three_pools_are_not_covered_and_the_warning_says_so() -> None:
    assert coverage(3, 1, middle_mean, 0.5, shares=False, seed=0) < 0.85
    (found,) = bootstrap(np.arange(3.0)[:, None], np.array(["a"] * 3, object), middle_mean, Quantities(["x"]))
    assert found.warnings == ("3 pools: a bootstrap interval of fewer than 6 is too narrow",)


SAME = 0.6381631951
ANY = 0.5987063257
"""Phi(.5 / sqrt 2) where the scores of a pool share their level, Phi(.5 / 2) across pools."""


@pytest.mark.parametrize(("pools", "cells"), [(6, 1), (12, 1), (5, 4)])
def test_probabilities_of_improvement_are_covered(pools: int, cells: int) -> None:
    assert 0.91 <= coverage(pools, cells, same_pool_wins, SAME, shares=True, seed=1) <= 1
    assert 0.89 <= coverage(pools, cells, any_pools_wins, ANY, shares=True, seed=2) <= 0.995


def test_a_profile_is_covered_at_a_threshold() -> None:
    random = np.random.default_rng(3)
    strata = np.array(["a"] * 12, object)
    found = [
        bootstrap(
            (random.standard_normal((12, 1)) > -0.5).astype(float), strata, cell_mean, Quantities(["x"], (), (0.0, 1.0))
        )[0]
        for _ in range(TIMES)
    ]
    truth = 0.6914624613
    assert 0.92 <= np.mean([one.low <= truth <= one.high for one in found]) <= 1
