"""The pools that a comparison needs: against the noncentral t, and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.core.errors import AnalysisError
from analysis.statistics.power import power
from tests.helpers import rows
from tests.helpers.gains import pools


class TestPower:
    def two(self, deviation: float) -> pd.DataFrame:
        """Two pools whose differences have this standard deviation."""
        return rows.frame(pools([0.1 - deviation / math.sqrt(2), 0.1 + deviation / math.sqrt(2)]))

    def test_the_deviation_has_chi_squares_interval(self) -> None:
        gains = [0.01, 0.02, -0.005, 0.03]
        found = power(rows.frame(pools(gains))).iloc[0]
        deviation = np.std(gains, ddof=1)
        chi2 = stats.chi2(3)
        ends = deviation * np.sqrt(3 / chi2.ppf([0.975, 0.025]))
        np.testing.assert_allclose([found["estimate"], found["low"], found["high"]], [deviation, *ends])
        assert (found["unit"], found["n_units"], found["p"], found["verdict"]) == ("pool", 4, None, "")

    @pytest.mark.parametrize(("ratio", "needed"), [(1.33, 7), (1.0, 10), (0.8, 15), (0.5, 34)])
    def test_the_pools_needed_are_those_of_the_noncentral_t(self, ratio: float, needed: int) -> None:
        found = power(self.two(0.005 / ratio)).iloc[0]
        assert (found["pools_needed"], found["effect"]) == (needed, 0.005)
        for n, enough in ((needed, True), (needed - 1, False)):
            t = stats.nct(n - 1, ratio * math.sqrt(n))
            critical = stats.t.ppf(0.975, n - 1)
            assert (t.sf(critical) + t.cdf(-critical) >= 0.8) == enough

    @pytest.mark.parametrize(("ratio", "chance"), [(3.0, 0.8), (1.0, 0.8), (0.5, 0.9)])
    def test_the_pools_for_equivalence_are_those_that_simulation_needs(self, ratio: float, chance: float) -> None:
        needed = power(self.two(0.005 / ratio), power=chance)["pools_for_equivalence"].item()
        random = np.random.default_rng(0)
        times = 20_000
        for n, enough in ((needed, True), (needed - 1, False)):
            values = random.standard_normal((times, n))
            se = values.std(axis=1, ddof=1) / math.sqrt(n)
            found = np.mean(np.abs(values.mean(axis=1)) + stats.t.ppf(0.95, n - 1) * se < ratio)
            assert (found >= chance - 0.01) == enough or abs(found - chance) < 0.01

    def test_more_spread_and_smaller_effects_need_more_pools(self) -> None:
        found = [power(self.two(0.01), effect=effect) for effect in (0.02, 0.01, 0.002, 1e-5)]
        for column in ("pools_needed", "pools_for_equivalence"):
            needed = [one[column].item() for one in found]
            assert needed == sorted(set(needed))

    def test_one_pool_and_equal_pools_give_no_number(self) -> None:
        alone = power(rows.frame(pools([0.1]))).iloc[0]
        assert alone[["pools_needed", "pools_for_equivalence"]].isna().all()
        assert (alone["low"], alone["high"]) == (-math.inf, math.inf)
        assert alone["warnings"] == ("one pool: no spread to measure",)
        equal = power(rows.frame(pools([0.91 - 0.9, 0.81 - 0.8]))).iloc[0]
        assert equal["estimate"] == 0.0
        assert equal[["pools_needed", "pools_for_equivalence"]].isna().all()
        assert equal["warnings"][0] == "no spread between these pools: no number of pools follows"

    @pytest.mark.parametrize(("name", "value"), [("effect", 0.0), ("power", 1.0), ("power", 0.01)])
    def test_settings_that_mean_nothing_are_refused(self, name: str, value: float) -> None:
        with pytest.raises(AnalysisError, match=f"{name}: {value} is not"):
            power(self.two(0.01), **{name: value})
