"""Stepwise max-t against its definition by brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from analysis.inference.max_t import MOST_EXACT, critical_t, flipped_t, sign_choices, stepwise_p


def stratified_t(values: np.ndarray, populations: np.ndarray, shares: np.ndarray) -> float:
    """|t| of one effect, its values of other pools NaN, from the means and variances of its populations."""
    mean = 0.0
    variance = 0.0
    for population, share in enumerate(shares):
        mine = values[(populations == population) & ~np.isnan(values)]
        if share:
            mean += share * mine.mean()
            variance += share**2 * mine.var(ddof=1) / len(mine)
    return abs(mean) / math.sqrt(variance)


def brute_force(values: np.ndarray, populations: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Corrected p by definition: for each effect the choices whose maximum over those not above it reaches its t."""
    pools, effects = values.shape
    observed = [stratified_t(values[:, one], populations, shares[:, one]) for one in range(effects)]
    choices = [np.array(signs)[:, None] for signs in itertools.product((1.0, -1.0), repeat=pools)]
    t = np.array(
        [[stratified_t((signs * values)[:, e], populations, shares[:, e]) for e in range(effects)] for signs in choices]
    )
    order = sorted(range(effects), key=lambda one: -observed[one])
    found = np.zeros(effects)
    largest = 0.0
    for place, one in enumerate(order):
        reached = t[:, order[place:]].max(axis=1) >= observed[one] * (1 - 1e-9)
        largest = max(largest, reached.mean())
        found[one] = largest
    return found


@pytest.mark.parametrize("seed", range(3))
def test_stepwise_p_is_its_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(0.6, 1, (7, 1)) + random.normal(0, 0.7, (7, 3))
    values[0, 2] = math.nan
    populations = np.array([0, 0, 0, 1, 1, 1, 1])
    shares = np.array([[0.5, 1.0, 1.0], [0.5, 0.0, -1.0]])
    observed = [stratified_t(values[:, one], populations, shares[:, one]) for one in range(3)]
    found = stepwise_p(np.array(observed), flipped_t(values, populations, shares))
    np.testing.assert_allclose(found, brute_force(values, populations, shares), rtol=1e-12)


def test_the_first_choice_leaves_the_data_as_they_are() -> None:
    for pools in (6, MOST_EXACT, MOST_EXACT + 4):
        signs = sign_choices(pools)
        assert (signs[0] == 1).all()
        assert set(np.unique(signs)) == {-1.0, 1.0}
    assert len(np.unique(sign_choices(6), axis=0)) == 2**5
    np.testing.assert_array_equal(sign_choices(MOST_EXACT + 4), sign_choices(MOST_EXACT + 4))


def test_one_effect_twice_costs_nothing() -> None:
    values = np.random.default_rng(5).normal(0.8, 1, (9, 1))
    one = flipped_t(values, np.zeros(9, int), np.ones((1, 1)))
    two = flipped_t(np.hstack([values, -values]), np.zeros(9, int), np.ones((1, 2)))
    assert stepwise_p(one[0], one)[0] == stepwise_p(two[0], two)[1]
    assert critical_t(one) == critical_t(two)


def test_too_few_choices_give_no_interval() -> None:
    values = np.random.default_rng(6).normal(0, 1, (4, 2))
    flips = flipped_t(values, np.zeros(4, int), np.ones((1, 2)))
    assert critical_t(flips) == math.inf
    assert critical_t(flips, 0.5) < math.inf
