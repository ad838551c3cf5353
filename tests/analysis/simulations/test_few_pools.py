"""Simulated studies: new test images, skewed pools, methods that never disagree, and exchangeable members."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.inference.estimate import EQUIVALENT, Question, unit_mean
from analysis.inference.finding import PoolValues
from analysis.inference.resampling import bootstrap_t, leave_one_member_out
from analysis.inference.two_way import Examples

pytestmark = pytest.mark.slow
TIMES = 400
MARGIN = 0.005


def study(matrix: np.ndarray) -> PoolValues:
    """The values of one population from differences of shape (pools, examples)."""
    pools = [str(pool) for pool in range(len(matrix))]
    frame = pd.DataFrame({"population": "people", "pool_id": pools, "value": matrix.mean(axis=1)})
    examples = {pool: Examples("digits", row) for pool, row in zip(pools, matrix, strict=True)}
    return PoolValues(frame, Question("difference", "pool", 0.0, MARGIN), examples=examples)


@pytest.mark.parametrize("pools", [5, 8, 12])
def test_intervals_of_claims_cover_new_pools_and_new_images(pools: int) -> None:
    random = np.random.default_rng(pools)
    examples = 200
    covered = 0
    alone = 0
    for _ in range(TIMES):
        hard = random.normal(0, 1, examples)
        matrix = random.normal(0, 0.08, (pools, 1)) + hard + random.normal(0, 1, (pools, examples))
        found = study(matrix).estimate
        covered += found.low <= 0 <= found.high
        interval = stats.ttest_1samp(matrix.mean(axis=1), 0).confidence_interval()
        alone += interval.low <= 0 <= interval.high
    assert 0.92 <= covered / TIMES <= 0.99
    assert alone / TIMES < 0.88


@pytest.mark.parametrize("pools", [8, 20])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda random, n: random.normal(0, 1, n), 0.0),
        (lambda random, n: random.exponential(1, n), 1.0),
        (lambda random, n: random.lognormal(0, 1, n), math.exp(0.5)),
    ],
)
def test_the_bootstrap_covers_more_where_pools_are_skewed(
    pools: int, draw: Callable[[np.random.Generator, int], np.ndarray], truth: float
) -> None:
    random = np.random.default_rng(pools)
    students = 0
    bootstraps = 0
    for _ in range(TIMES):
        values = draw(random, pools)
        found = unit_mean(values, Question("difference"))
        low, high = bootstrap_t([values], [1.0])
        students += found.low <= truth <= found.high
        bootstraps += found.estimate - high * found.se <= truth <= found.estimate - low * found.se
    if truth == 0:
        assert bootstraps / TIMES >= 0.91
        return
    assert bootstraps / TIMES >= students / TIMES + 0.01
    assert bootstraps / TIMES >= 0.86


def test_methods_that_never_disagree_are_hardly_ever_equivalent_at_the_margin() -> None:
    wrong = np.random.default_rng(0).random((4000, 600)) < MARGIN
    identical = float((~wrong.any(axis=1)).mean())
    assert study(np.zeros((5, 600))).estimate.verdict == EQUIVALENT
    assert study(np.zeros((5, 590))).estimate.verdict != EQUIVALENT
    assert 0.04 <= identical <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)


def test_members_of_several_pools_are_units_where_pools_have_nothing_in_common() -> None:
    random = np.random.default_rng(1)
    subsets = list(itertools.combinations(range(6), 2))
    names = [[f"{pool} {member}" for member in subset] for pool in range(3) for subset in subsets]
    over_members = 0
    widths = []
    for _ in range(TIMES):
        members = random.normal(0, 1, (3, 6))
        values = members[:, np.array(subsets)].mean(axis=2) + random.normal(0, 0.2, (3, len(subsets)))
        se, count = leave_one_member_out(values.ravel(), names)
        half = stats.t.ppf(0.975, count - 1) * se
        over_members += abs(values.mean()) <= half
        widths.append(half / (stats.t.ppf(0.975, 2) * stats.sem(values.mean(axis=1))))
    assert 0.93 <= over_members / TIMES <= 0.99
    assert np.median(widths) < 0.8
