"""Random effects over cells against statsmodels, scipy, formulas by hand, and simulated cells of known effects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from analysis.inference.heterogeneity import Heterogeneity, equality_p, random_effects


def summaries(groups: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard error and degrees of freedom of each group."""
    means = np.array([one.mean() for one in groups])
    ses = np.array([one.std(ddof=1) / math.sqrt(len(one)) for one in groups])
    return means, ses, np.array([len(one) - 1.0 for one in groups])


@pytest.fixture
def groups() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.normal(mean, 1, n) for mean, n in zip((0, 0.5, 1, 3, 0, 2), (5, 6, 7, 5, 5, 8), strict=True)]


def test_equal_standard_errors_give_the_numbers_of_statsmodels() -> None:
    estimates = np.array([0.4, 1.9, -0.3, 2.2, 1.1])
    ses = np.full(5, 0.6)
    found = random_effects(estimates, ses, np.full(5, 9.0))
    theirs = combine_effects(estimates, ses**2, method_re="pm", use_t=True)
    assert found.mean == pytest.approx(theirs.mean_effect_re)
    assert found.tau**2 == pytest.approx(theirs.tau2, rel=1e-4)  # their iteration ends at about 1e-5
    assert found.se == pytest.approx(math.sqrt(theirs.var_hksj_re))
    assert (found.low, found.high) == pytest.approx(theirs.conf_int(use_t=True)[3])
    assert found.i_squared == pytest.approx(theirs.i2)
    assert found.q == pytest.approx(theirs.q)


def test_q_is_that_of_statsmodels_and_its_p_that_of_scipy(groups: list[np.ndarray]) -> None:
    means, ses, dfs = summaries(groups)
    found = random_effects(means, ses, dfs)
    assert found.q == pytest.approx(combine_effects(means, ses**2).q)
    assert found.q_p == pytest.approx(stats.alexandergovern(*groups).pvalue, rel=1e-9)


def test_known_standard_errors_have_the_chi_square_of_q() -> None:
    estimates = np.array([0.1, 0.9, 1.4])
    ses = np.array([0.3, 0.4, 0.5])
    found = random_effects(estimates, ses, np.full(3, math.inf))
    assert found.q_p == pytest.approx(stats.chi2.sf(found.q, 2), rel=1e-3)


def test_a_small_example_by_hand() -> None:
    found = random_effects(np.array([1.0, 3.0]), np.array([0.6, 0.8]), np.array([4.0, 4.0]))
    # Variance of the estimates 2, of which (.36 + .64) / 2 = .5 is noise.
    assert (found.mean, found.se, found.df) == (2.0, 1.0, 1.0)
    assert found.tau == pytest.approx(math.sqrt(1.5))
    assert found.i_squared == pytest.approx(0.75)
    assert found.high - found.mean == pytest.approx(12.7062, abs=1e-3)
    # Q of two estimates is the square of their difference over the sum of their variances.
    assert found.q == pytest.approx(4.0)
    assert found.n_cells == 2


def test_many_cells_of_large_differences_predict_by_t() -> None:
    estimates = np.linspace(-10, 10, 9)
    found = random_effects(estimates, np.full(9, 1e-6), np.full(9, 7.0))
    half = stats.t.ppf(0.975, 8) * estimates.std(ddof=1) * math.sqrt(1 + 1 / 9)
    assert found.new_high - found.mean == pytest.approx(half, rel=5e-3)


def test_equal_effects_have_no_spread() -> None:
    found = random_effects(np.array([0.5, 0.5, 0.5]), np.array([0.1, 0.2, 0.3]), np.full(3, 5.0))
    assert (found.tau, found.i_squared, found.q) == (0.0, 0.0, 0.0)
    assert found.new_low == found.new_high == found.mean == 0.5
    assert found.q_p == 1.0


def test_the_order_of_cells_does_not_matter(groups: list[np.ndarray]) -> None:
    means, ses, dfs = summaries(groups)
    found = random_effects(means, ses, dfs)
    again = random_effects(means[::-1], ses[::-1], dfs[::-1])
    assert vars(again) == pytest.approx(vars(found))


@pytest.mark.parametrize("ses", [[0.1], [0.1, 0.0], [0.1, math.nan], [0.1, math.inf]])
def test_a_cell_without_a_standard_error_is_refused(ses: list[float]) -> None:
    with pytest.raises(ValueError, match="standard errors above 0"):
        random_effects(np.zeros(len(ses)), np.array(ses), np.ones(len(ses)))


TIMES = 300


def simulated(cells: int, pools: int, tau: float) -> tuple[list[Heterogeneity], np.ndarray]:
    """Random effects over cells with a true mean of 0, and the true effect of a new cell in each study."""
    random = np.random.default_rng([cells, pools, int(10 * tau)])
    effects = random.normal(0, tau, (TIMES, cells))
    values = effects[:, :, None] + random.normal(0, 1, (TIMES, cells, pools))
    ses = values.std(axis=2, ddof=1) / math.sqrt(pools)
    dfs = np.full(cells, pools - 1.0)
    found = [random_effects(mean, se, dfs) for mean, se in zip(values.mean(axis=2), ses, strict=True)]
    return found, random.normal(0, tau, TIMES)


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("pools", [5, 12])
@pytest.mark.parametrize("cells", [5, 10])
def test_intervals_over_cells_cover_the_mean_and_a_new_cell(cells: int, pools: int, tau: float) -> None:
    found, new = simulated(cells, pools, tau)
    error = 3 * math.sqrt(0.95 * 0.05 / TIMES)
    mean = np.mean([one.low <= 0 <= one.high for one in found])
    assert abs(mean - 0.95) <= error
    ahead = np.mean([one.new_low <= effect <= one.new_high for one, effect in zip(found, new, strict=True)])
    assert ahead >= 0.95 - error
    if tau == 1.0:  # then the prediction is hardly wider than that of the estimate in a new cell
        widths = [(one.new_high - one.new_low) / (one.high - one.low) for one in found]
        assert np.mean(widths) <= 1.1 * math.sqrt(cells + 1)


@pytest.mark.parametrize("cells", [2, 6, 10])
@pytest.mark.parametrize("pools", [5, 12])
def test_equal_cells_are_hardly_ever_found_to_differ(cells: int, pools: int) -> None:
    random = np.random.default_rng([cells, pools])
    values = random.normal(0, 1, (1000, cells, pools)) * np.geomspace(0.5, 2, cells)[:, None]
    ses = values.std(axis=2, ddof=1) / math.sqrt(pools)
    dfs = np.full(cells, pools - 1.0)
    found = [equality_p(mean, se, dfs) < 0.05 for mean, se in zip(values.mean(axis=2), ses, strict=True)]
    assert np.mean(found) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
