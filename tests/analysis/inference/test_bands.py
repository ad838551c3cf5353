"""Simultaneous intervals: against exact multivariate t, independent tests and plain Student intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.inference.bands import simultaneous_means
from analysis.inference.estimate import BEYOND_MARGIN, DIFFERENT, EQUIVALENT, Question, unit_mean

ASKED = Question("mean", "pool", 0.0, 0.5)


def means(values: np.ndarray, question: Question = ASKED) -> list[float]:
    """Half the width of each interval, in standard errors."""
    found = simultaneous_means(values, [question] * values.shape[1])
    return [(one.high - one.estimate) / one.se for one in found]


def studies(pools: int, correlation: np.ndarray, number: int, seed: int = 1) -> np.ndarray:
    root = np.linalg.cholesky(correlation + 1e-9 * np.eye(len(correlation)))
    return np.random.default_rng(seed).standard_normal((number, pools, len(correlation))) @ root.T


def test_one_column_and_equal_columns_have_the_interval_of_student() -> None:
    values = np.random.default_rng(0).standard_normal((8, 1))
    student = stats.t.ppf(0.975, 7)
    assert means(values)[0] == pytest.approx(student, rel=1e-12)
    np.testing.assert_allclose(means(np.tile(values, 4)), student, rtol=0.03)


def test_independent_columns_have_the_interval_of_sidak() -> None:
    # Orthogonal columns: no correlation is seen.
    values = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 6)))[0][:, 1:]
    values = np.linalg.qr(np.column_stack([np.ones(30), values]))[0][:, 1:] + 0.01
    np.testing.assert_allclose(means(values), stats.t.ppf(1 - (1 - 0.95 ** (1 / 5)) / 2, 29), rtol=0.02)


def test_many_pools_have_the_interval_of_the_multivariate_normal() -> None:
    correlation = np.full((4, 4), 0.7) + 0.3 * np.eye(4)
    (values,) = studies(4000, correlation, 1)
    half = means(values)[0]
    normal = stats.multivariate_normal(cov=correlation)
    box = normal.cdf(np.full(4, half), lower_limit=np.full(4, -half))
    # At most 40 degrees of freedom are simulated, hence the quantile is taken on the scale of p.
    assert box == pytest.approx(0.95, abs=0.006)


@pytest.mark.parametrize(("shape", "pools"), [("independent", 5), ("equal", 5), ("steps", 5), ("steps", 12)])
def test_all_means_are_covered_at_once(shape: str, pools: int) -> None:
    columns = 7
    one = np.eye(columns)
    equal = 0.8 + 0.2 * one
    steps = one - 0.5 * (np.eye(columns, k=1) + np.eye(columns, k=-1))
    correlation = {"independent": one, "equal": equal, "steps": steps}[shape]
    covered = [
        all(one.low <= 0 <= one.high for one in simultaneous_means(values, [Question("mean")] * columns))
        for values in studies(pools, correlation, 300)
    ]
    assert 0.915 <= np.mean(covered) <= 0.985


def test_p_and_verdict_are_those_of_the_intervals() -> None:
    random = np.random.default_rng(2)
    values = np.array([2.0, 0.6, 0.02, 0.3, 0.0]) + np.array([0.3, 0.3, 0.2, 0.4, 1.0]) * random.standard_normal(
        (10, 5)
    )
    found = simultaneous_means(values, [ASKED] * 5)
    for one, column in zip(found, values.T, strict=True):
        plain = unit_mean(column, ASKED)
        assert one.p == plain.p
        assert one.p_adjusted is not None
        assert one.p_adjusted >= (one.p or 0)
        assert one.high - one.low > plain.high - plain.low
        assert (one.p_adjusted < 0.05) == (not one.low <= 0 <= one.high)
        assert (one.verdict == BEYOND_MARGIN) == (one.low > 0.5 or one.high < -0.5)
    assert [one.verdict for one in found[:3]] == [BEYOND_MARGIN, DIFFERENT, EQUIVALENT]


def test_columns_without_spread_or_with_one_pool_are_not_counted() -> None:
    values = np.random.default_rng(0).standard_normal((6, 4))
    alone = values.copy()
    alone[:, 1] = 0.25
    alone[1:, 2] = np.nan
    found = simultaneous_means(alone, [ASKED] * 4)
    two = simultaneous_means(values[:, [0, 3]], [ASKED] * 2)
    assert [found[0], found[3]] == two
    assert (found[1].low, found[1].high) == (0.25, 0.25)
    assert math.isinf(found[2].high)


def test_a_column_with_fewer_pools_has_a_wider_interval() -> None:
    values = np.random.default_rng(0).standard_normal((9, 3))
    values[5:, 1] = np.nan
    found = simultaneous_means(values, [ASKED] * 3)
    assert [one.n_units for one in found] == [9, 5, 9]
    ratio = [(one.high - one.estimate) / one.se for one in found]
    assert ratio[1] > ratio[0] == pytest.approx(ratio[2])


def test_the_order_of_pools_and_of_calls_changes_nothing() -> None:
    values = np.random.default_rng(0).standard_normal((9, 3))
    first = means(values)
    means(values[:4])
    np.testing.assert_allclose(means(values[::-1]), first, rtol=1e-9)
    assert means(values) == first
