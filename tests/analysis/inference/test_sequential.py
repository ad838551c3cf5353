"""Sequential levels against published boundaries, multivariate normal probabilities and plain integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import ndtri

from analysis.inference.sequential import (
    KEPT,
    PRIOR_VARIANCE,
    Stage,
    boundary_level,
    likelihood_ratio,
    nominal_level,
    p_over_looks,
    sequential_p,
    spent,
)

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


def stages(plan: float, *pools: int) -> list[Stage]:
    return [Stage((n - 1) / (plan - 1), n, n - 1.0) for n in pools]


def test_the_boundaries_are_the_published_ones() -> None:
    """Lan-DeMets spending of O'Brien-Fleming type, 5 looks, two-sided .05: tables of gsDesign and ldbounds."""
    found = [-ndtri(boundary_level(0.025, FIFTHS[:looks])) for looks in range(1, 6)]
    np.testing.assert_allclose(found, [4.877, 3.357, 2.680, 2.290, 2.031], atol=6e-4)


@pytest.mark.parametrize("shares", [(0.3, 1.0), (0.25, 0.3, 0.9), (0.5, 0.52, 0.54)])
@pytest.mark.parametrize("alpha", [0.025, 0.2])
def test_all_looks_together_spend_the_error(alpha: float, shares: tuple[float, ...]) -> None:
    bounds = [-ndtri(boundary_level(alpha, shares[: n + 1])) for n in range(len(shares))]
    correlation = np.array([[math.sqrt(min(a, b) / max(a, b)) for a in shares] for b in shares])
    inside = stats.multivariate_normal(np.zeros(len(shares)), correlation).cdf(bounds)
    assert 1 - inside == pytest.approx(spent(alpha, shares[-1]), abs=2e-5)


@pytest.mark.parametrize(("t", "pools"), [(0.0, 5), (2.5, 5), (4.0, 20), (-3.0, 9)])
def test_the_ratio_of_likelihoods_is_the_integral_over_the_prior(t: float, pools: int) -> None:
    def density(effect: float) -> float:
        prior = stats.norm(0, math.sqrt(PRIOR_VARIANCE)).pdf(effect)
        return float(stats.nct.pdf(t, pools - 1, effect * math.sqrt(pools)) * prior)

    marginal, _ = integrate.quad(density, -8, 8, points=[t / math.sqrt(pools)], limit=200)
    expected = marginal / stats.t.pdf(t, pools - 1)
    assert likelihood_ratio(t, Stage(1.0, pools, pools - 1.0)) == pytest.approx(expected, rel=1e-4)


def test_one_look_at_all_planned_pools_is_an_ordinary_test() -> None:
    one = stages(8, 8)
    assert nominal_level(0.05, one, 0.0) == pytest.approx(0.05)
    assert sequential_p(0.03, one, 0.0) == 0.03
    assert nominal_level(0.05, one, KEPT) == pytest.approx(0.05 * (1 - KEPT))
    assert sequential_p(0.03, one, KEPT) == pytest.approx(0.03 / (1 - KEPT))
    assert sequential_p(0.98, one, KEPT) == 1.0


def test_beyond_a_stated_plan_no_error_is_left_but_a_finding_stands() -> None:
    looks = stages(8, 8, 12)
    assert nominal_level(0.05, looks, 0.0) == 0.0
    assert sequential_p(1e-9, looks, 0.0) == 1.0
    assert p_over_looks([0.01, 0.02], looks, 0.0) == 0.02
    assert p_over_looks([0.01, 0.3], looks, 0.0) == 0.3
    assert p_over_looks([math.nan, 1e-9], looks, 0.0) == 1.0
    assert math.isnan(p_over_looks([0.01, math.nan], looks, 0.0))


@pytest.mark.parametrize("kept", [0.0, KEPT])
@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("pools", [(6,), (6, 7), (5, 8, 11), (8, 12, 16)])
def test_p_is_the_error_at_which_the_level_is_reached(pools: tuple[int, ...], sides: int, kept: float) -> None:
    looks = stages(12, *pools)
    level = nominal_level(0.04, looks, kept, sides)
    if level == 0:
        assert (kept, pools) == (0.0, (8, 12, 16)), "all planned pools were there"
        return
    # The p is interpolated, the level is not.
    assert sequential_p(level, looks, kept, sides) == pytest.approx(0.04, rel=2e-4)


def test_levels_before_the_plan_are_small_and_grow() -> None:
    looks = stages(20, *range(5, 21))
    found = [nominal_level(0.05, looks[: n + 1], 0.0) for n in range(len(looks))]
    assert found == sorted(found)
    assert found[0] < 1e-4
    assert 0.03 < found[-1] < 0.05
