"""Laws of the number of members: fits against exact values and independent computations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats

from analysis.inference import laws
from analysis.inference.bent_laws import fit_bent

SIZES = np.array([2.0, 3, 4, 6, 8, 12])
TRUE_C = {"power": 1.7, "shifted": 2.0}


def drawn(law: laws.Law, pools: int = 4, noise: float = 0.0) -> np.ndarray:
    """Pools of one law, a and b growing from pool to pool."""
    place = np.arange(pools)[:, None]
    values = 0.9 + 0.01 * place - (0.1 + 0.02 * place) * law.basis(SIZES, np.array(TRUE_C.get(law.name, 0.0)))
    return values + noise * np.random.default_rng(0).standard_normal(values.shape)


@pytest.mark.parametrize("law", laws.LAWS.values(), ids=laws.LAWS)
class TestEveryLaw:
    def test_it_finds_its_own_coefficients_whatever_size_a_pool_lacks(self, law: laws.Law) -> None:
        values = drawn(law)
        values[1, 2] = np.nan
        values[3, 0] = np.nan
        found = laws.fit(law, SIZES, values)
        np.testing.assert_allclose(found.a, [0.9, 0.91, 0.92, 0.93], rtol=1e-5)
        np.testing.assert_allclose(found.b, [0.1, 0.12, 0.14, 0.16], rtol=1e-3)
        np.testing.assert_allclose(found.c, TRUE_C.get(law.name, 0.0), rtol=1e-3)
        np.testing.assert_allclose(found.at(SIZES)[0], drawn(law)[0], rtol=1e-6)
        assert found.bounded == 0

    def test_growth_has_b_above_zero(self, law: laws.Law) -> None:
        found = laws.fit(law, SIZES, drawn(law))
        assert (np.diff(found.at(np.arange(1.0, 50))) > 0).all()

    def test_a_pool_with_fewer_sizes_than_coefficients_has_none(self, law: laws.Law) -> None:
        values = drawn(law)
        values[2, len(law.coefficients) - 1 :] = np.nan
        found = laws.fit(law, SIZES, values)
        assert np.isnan([found.a[2], found.b[2]]).all()
        assert np.isfinite(found.a[[0, 1, 3]]).all()

    def test_the_error_is_that_of_fits_without_each_size(self, law: laws.Law) -> None:
        values = drawn(law, noise=0.01)
        missed = np.empty_like(values)
        for place in range(len(SIZES)):
            rest = np.arange(len(SIZES)) != place
            missed[:, place] = values[:, place] - laws.fit(law, SIZES[rest], values[:, rest]).at(SIZES)[:, place]
        np.testing.assert_allclose(laws.left_out_error(law, SIZES, values), np.sqrt((missed**2).mean(1)), rtol=1e-6)


def test_straight_fits_are_those_of_polyfit() -> None:
    values = drawn(laws.LAWS["inverse"], noise=0.01)
    for name, x in (("inverse", 1 / SIZES), ("root", SIZES**-0.5), ("log", -np.log(SIZES))):
        found = laws.fit(laws.LAWS[name], SIZES, values)
        np.testing.assert_allclose(np.polyfit(x, values.T, 1), [-found.b, found.a], rtol=1e-9)


@pytest.mark.parametrize("name", ["power", "shifted"])
def test_bent_fits_are_as_good_as_those_of_curve_fit(name: str) -> None:
    law = laws.LAWS[name]
    values = drawn(law, noise=0.001)
    found = laws.fit(law, SIZES, values)
    for pool, fitted in zip(values, found.at(SIZES), strict=True):
        best, _ = optimize.curve_fit(lambda n, a, b, c: a - b * law.basis(n, c), SIZES, pool, [0.9, 0.1, TRUE_C[name]])
        reference = best[0] - best[1] * law.basis(SIZES, best[2])
        np.testing.assert_allclose(((pool - fitted) ** 2).sum(), ((pool - reference) ** 2).sum(), rtol=1e-4)


def test_a_c_that_the_curve_does_not_determine_is_counted() -> None:
    straight = 0.5 + 0.1 * SIZES[None, :] + np.zeros((3, 1))
    assert laws.fit(laws.LAWS["shifted"], SIZES, straight).bounded == 3


def test_enough_members_is_what_counting_says() -> None:
    for b, eps in ((0.1, 0.001), (0.3, 0.0007), (-0.2, 0.001), (0.0004, 0.001)):
        values = 0.9 - (b + np.array([[-0.00001], [0.00001]])) / SIZES
        counted = next(n for n in itertools.count(1) if b / (n * (n + 1)) < eps)
        assert laws.enough_members(laws.fit(laws.LAWS["inverse"], SIZES, values), eps)[0] == counted
    slow = laws.fit(laws.LAWS["log"], SIZES, np.log(SIZES)[None, :] * np.array([[1000.0], [1001]]))
    assert laws.enough_members(slow, 1e-4) == (math.inf, math.inf, math.inf)


def test_the_interval_of_enough_members_is_that_of_b() -> None:
    values = drawn(laws.LAWS["inverse"])
    interval = stats.ttest_1samp([0.1, 0.12, 0.14, 0.16], 0).confidence_interval()
    for end, found in zip(
        (0.13, interval.low, interval.high),
        laws.enough_members(laws.fit(laws.LAWS["inverse"], SIZES, values), 0.001),
        strict=True,
    ):
        assert found == next(n for n in itertools.count(1) if end / (n * (n + 1)) < 0.001)


def test_only_laws_with_fewer_coefficients_than_sizes_have_errors() -> None:
    steep = drawn(laws.LAWS["power"], noise=1e-5)
    found = laws.errors(SIZES, steep)
    assert set(found) == set(laws.LAWS)
    assert min(found, key=lambda name: found[name].mean()) == "power"
    assert set(laws.errors(SIZES[:3], steep[:, :3])) == {"inverse", "root", "log"}
    assert laws.errors(SIZES[:2], steep[:, :2]) == {}
    assert laws.rivals(found, "power") == []
    assert laws.rivals({}, "power") == []


@pytest.mark.parametrize("name", ["power", "shifted"])
class TestBentLaws:
    def test_exact_pools_have_the_true_coefficients(self, name: str) -> None:
        found = fit_bent(laws.LAWS[name], SIZES, drawn(laws.LAWS[name])).coefficients
        assert found is not None
        assert found["c"][0] == pytest.approx(TRUE_C[name], rel=1e-3)
        assert found["c"][1] < TRUE_C[name] < found["c"][2]
        for quantity, values in (("a", [0.9, 0.91, 0.92, 0.93]), ("b", [0.1, 0.12, 0.14, 0.16])):
            interval = stats.ttest_1samp(values, 0).confidence_interval()
            # The interval of c, as narrow as the grid, widens that of the pools a little.
            np.testing.assert_allclose(found[quantity], [np.mean(values), *interval], rtol=0.02)

    def test_the_interval_of_c_is_that_of_a_t_test_at_every_c(self, name: str) -> None:
        law = laws.LAWS[name]
        values = drawn(law, pools=6, noise=0.0005)
        found = fit_bent(law, SIZES, values).coefficients
        assert found is not None

        def p(c: float) -> float:
            step = 1e-6 * (c + law.offset)
            slope = (law.basis(SIZES, np.array(c + step)) - law.basis(SIZES, np.array(c - step))) / (2 * step)
            straight = np.column_stack([np.ones(len(SIZES)), law.basis(SIZES, np.array(c))])
            along = slope - straight @ np.linalg.lstsq(straight, slope)[0]
            return float(stats.ttest_1samp(values @ along, 0).pvalue)

        # The ends are the first rejected values of a grid, 1% of c + offset apart.
        step = 1.02
        for end, inner in ((found["c"][1], step), (found["c"][2], 1 / step)):
            assert p(end) < 0.05 < p((end + law.offset) * inner - law.offset)

    def test_a_c_that_noise_hides_gives_no_coefficient(self, name: str) -> None:
        law = laws.LAWS[name]
        noise = 0.01 * np.random.default_rng(3).standard_normal((5, len(SIZES)))
        assert fit_bent(law, SIZES, 0.9 + noise).coefficients is None
        assert fit_bent(law, SIZES[:2], drawn(law)[:, :2]).coefficients is None
        assert fit_bent(law, SIZES, drawn(law)[:1]).coefficients is None

    def test_a_pool_that_lacks_a_size_is_left_out(self, name: str) -> None:
        law = laws.LAWS[name]
        values = drawn(law, pools=5)
        part = np.where(np.arange(5)[:, None] + np.arange(len(SIZES)) == 4, np.nan, values)[[0, 1, 2, 3, 4]]
        assert fit_bent(law, SIZES, part).pools == 0
        part = values.copy()
        part[4, 0] = np.nan
        assert fit_bent(law, SIZES, part) == fit_bent(law, SIZES, values[:4])
