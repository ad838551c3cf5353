"""Differences on identical subsets: exact cases, cells, and one pool."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import BEYOND_MARGIN, EQUIVALENT, INCONCLUSIVE
from analysis.inference.resampling import bootstrap_t
from analysis.rows.select import unscaled
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.pool_means import pool_means
from tests.helpers import rows
from tests.helpers.gains import made, pools


@pytest.fixture(scope="module")
def plain() -> pd.DataFrame:
    return unscaled(rows.frame(rows.candidates()))


class TestPairs:
    def test_pairs_are_taken_on_identical_subsets(self) -> None:
        both = []
        for pool, (easy, hard) in enumerate([(0.9, 0.5), (0.8, 0.4)]):
            for members, level in (((0, 1), easy), ((0, 2), hard)):
                both.append(rows.candidate(pool, members, "uniform_soup", accuracy=level + 0.01 * (pool + 1)))
                both.append(rows.candidate(pool, members, "logit_average", space="logits", accuracy=level))
        found = paired_difference(rows.frame(both)).iloc[0]
        interval = stats.ttest_1samp([0.01, 0.02], 0).confidence_interval()
        np.testing.assert_allclose(
            [found["estimate"], found["low"], found["high"]], [0.015, interval.low, interval.high], rtol=1e-9
        )
        alone = rows.candidate(0, (1, 2), "uniform_soup", accuracy=0.1)
        found = paired_difference(rows.frame([*both, alone])).iloc[0]
        assert found["estimate"] == pytest.approx(0.015)
        assert found["warnings"] == ("1 pair left out: only one of the two methods has the subset",)

    def test_a_subset_of_the_second_method_alone_is_counted_in_the_group_of_the_first(self) -> None:
        alone = rows.candidate(0, (1, 2), "logit_average", space="logits")
        found = paired_difference(rows.frame([*pools([0.1, 0.2]), alone]), by=["population", "n_members", "space"])
        assert found["space"].tolist() == ["weights"]
        assert found["warnings"].item() == ("1 pair left out: only one of the two methods has the subset",)

    def test_the_mean_member_is_the_mean_of_its_single_members(self) -> None:
        single = [rows.candidate(0, (index,), "single", accuracy=level) for index, level in enumerate([0.5, 0.7, 0.9])]
        merged = [rows.candidate(0, members, "uniform_soup", accuracy=0.8) for members in ((0, 1), (0, 1, 2))]
        found = paired_difference(rows.frame(single + merged), "uniform_soup", "mean_member")
        np.testing.assert_allclose(found["estimate"], [0.2, 0.1])
        mirrored = paired_difference(rows.frame(single + merged), "mean_member", "uniform_soup")
        np.testing.assert_allclose(mirrored["estimate"], [-0.2, -0.1])
        found = paired_difference(rows.frame(single[1:] + merged), "uniform_soup", "mean_member")
        assert found["n_units"].tolist() == [0, 0]
        assert "1 pair left out: failed" in found["warnings"][0]

    def test_single_members_that_were_repaired_are_no_mean_member(self) -> None:
        single = [rows.candidate(0, (index,), "single", accuracy=0.6) for index in (0, 1)]
        other = [rows.candidate(0, (index,), "single", accuracy=0.9, repair="reset_bn") for index in (0, 1)]
        soup = rows.candidate(0, (0, 1), "uniform_soup", accuracy=0.8)
        found = paired_difference(rows.frame([*single, *other, soup]), "uniform_soup", "mean_member")
        assert found["estimate"].item() == pytest.approx(0.2)

    def test_an_unknown_label_is_answered_with_the_nearest(self, plain: pd.DataFrame) -> None:
        with pytest.raises(AnalysisError, match=r"did you mean .*`uniform_soup`"):
            paired_difference(plain, "uniform_sup")

    def test_settings_alignments_and_repairs_are_methods_of_their_own(self, plain: pd.DataFrame) -> None:
        labels = set(pool_means(plain)["label"])
        assert {"feature_average (head=first)", "feature_average (head=average)"} <= labels
        repaired = plain.assign(repair="reset_bn", alignment="weight_matching")
        label = "uniform_soup + weight_matching + reset_bn"
        found = paired_difference(pd.concat([plain, repaired]), label, "uniform_soup")
        np.testing.assert_allclose(found["estimate"], 0, atol=1e-15)

    def test_signs_are_reported_beside_t(self) -> None:
        gains = [0.01, 0.02, -0.005, 0.03, 0.015, 0.01]
        found = paired_difference(rows.frame(pools(gains)), margin=0.05).iloc[0]
        sums = [abs(np.dot(gains, signs)) >= sum(gains) - 1e-12 for signs in itertools.product((1, -1), repeat=6)]
        assert found["sign_flip_p"] == sum(sums) / 64
        assert found["improved"] == pytest.approx(5 / 6)
        assert (found["margin"], found["verdict"]) == (0.05, EQUIVALENT)
        assert math.isnan(paired_difference(rows.frame(pools(gains[:5])))["sign_flip_p"].item())

    def test_a_margin_decides_between_equal_and_undecided(self) -> None:
        noisy = rows.frame(pools([0.01, -0.012, 0.03, -0.02]))
        assert paired_difference(noisy, margin=0.005)["verdict"].item() == INCONCLUSIVE
        assert paired_difference(noisy, margin=0.1)["verdict"].item() == EQUIVALENT
        assert paired_difference(rows.frame(pools([0.1, 0.11, 0.12])), margin=0.005)["verdict"].item() == BEYOND_MARGIN


class TestCells:
    first = (0.01, 0.05, 0.03, 0.02)
    second = (0.02, -0.04, 0.03)

    def frame(self) -> pd.DataFrame:
        return rows.frame(pools(self.first, "one") + pools(self.second, "two"))

    def test_two_fixed_cells_are_welchs_t(self) -> None:
        found = paired_difference(self.frame(), over="these cells").iloc[0]
        welch = stats.ttest_ind(self.first, [-value for value in self.second], equal_var=False)
        assert found["estimate"] == pytest.approx((np.mean(self.first) + np.mean(self.second)) / 2)
        assert (found["p"], found["df"]) == (pytest.approx(welch.pvalue), pytest.approx(welch.df))
        assert (found["unit"], found["n_units"]) == ("pool", 7)
        assert found["estimand"].endswith("for new pools of these cells")
        assert found["improved"] == pytest.approx(6 / 7)

    def test_new_cells_take_t_over_means_of_cells(self) -> None:
        cells = [self.first, self.second, [0.0, 0.3], [0.1], [0.2, 0.1], [0.05]]
        frame = rows.frame([row for index, gains in enumerate(cells) for row in pools(gains, f"cell {index}")])
        found = paired_difference(frame, over="new cells").iloc[0]
        reference = stats.ttest_1samp([np.mean(gains) for gains in cells], 0)
        assert found["p"] == pytest.approx(reference.pvalue)
        assert (found["unit"], found["n_units"], found["df"]) == ("cell", 6, 5)
        assert found["sign_flip_p"] == 2 / 64
        assert found["estimand"].endswith("for new cells")

    def test_populations_leave_the_groups(self) -> None:
        assert "population" not in paired_difference(self.frame(), over="new cells")
        whole = paired_difference(self.frame(), over="these cells", by=["population"], margin=0.1)
        assert len(whole) == 1
        assert whole.columns[0] == "sign_flip_p"
        assert paired_difference(self.frame())["population"].tolist() == ["one", "two"]

    def test_a_cell_with_one_pool_has_no_interval(self) -> None:
        frame = rows.frame(pools(self.first, "one") + pools([0.3], "two"))
        found = paired_difference(frame, over="these cells").iloc[0]
        assert (found["low"], found["high"], found["p"]) == (-math.inf, math.inf, None)
        assert found["warnings"] == ("one pool in `two`: no interval can be given",)
        alone = paired_difference(rows.frame(pools(self.first)), over="new cells").iloc[0]
        assert (alone["low"], alone["warnings"]) == (-math.inf, ("one cell: no interval can be given",))

    def test_cells_without_spread_or_rows_give_a_warning(self) -> None:
        flat = paired_difference(rows.frame(pools([0.1] * 3, "one") + pools([0.2] * 4, "two")), over="these cells")
        assert (flat["se"].item(), flat["df"].item(), flat["p"].item()) == (0.0, 5.0, None)
        missing = self.frame().assign(status="failed", accuracy=np.nan)
        found = paired_difference(missing, over="these cells")
        assert found["n_units"].item() == 0
        assert "no pool: nothing to estimate" in found["warnings"].item()

    def test_an_unknown_scope_is_refused(self) -> None:
        with pytest.raises(AnalysisError, match="did you mean `new cells`"):
            paired_difference(self.frame(), over="new cell")  # type: ignore[arg-type]


class TestOnePool:
    def test_members_are_left_out_in_turn(self) -> None:
        random = np.random.default_rng(3)
        gains = {subset: float(random.normal(0.01, 0.02)) for subset in itertools.combinations(range(6), 2)}
        found = paired_difference(rows.frame(made(0, gains))).iloc[0]
        without = [np.mean([gain for subset, gain in gains.items() if one not in subset]) for one in range(6)]
        se = math.sqrt(5 / 6 * sum((value - np.mean(without)) ** 2 for value in without))
        assert (found["unit"], found["n_units"], found["df"]) == ("member", 6, 5)
        assert (found["estimate"], found["se"]) == (pytest.approx(np.mean([*gains.values()])), pytest.approx(se))
        assert found["high"] - found["estimate"] == pytest.approx(stats.t.ppf(0.975, 5) * se)
        assert found["warnings"] == ("one pool: the interval is for members of this pool",)
        assert found["estimand"].endswith("for members of this pool")

    def test_large_subsets_are_conservative_and_the_whole_pool_has_no_interval(self) -> None:
        large = {subset: 0.01 * index for index, subset in enumerate(itertools.combinations(range(4), 3))}
        found = paired_difference(rows.frame(made(0, large | {(0, 1, 2, 3): 0.1})))
        assert found["n_members"].tolist() == [3, 4]
        assert found["warnings"][0][1].endswith("the interval is conservative")
        assert (found["low"][1], found["high"][1], found["unit"][1]) == (-math.inf, math.inf, "pool")
        assert found["warnings"][1] == ("one pool: a member is in every subset, no interval can be given",)

    def test_prefixes_have_no_interval(self) -> None:
        nested = {(0, 1): 0.01, (0, 1, 2): 0.02, (0, 1, 2, 3): 0.03}
        found = paired_difference(rows.frame(made(0, nested)), by=["population"])
        assert np.isposinf(found["high"]).all()

    def test_a_pool_without_usable_others_is_one_pool(self) -> None:
        gains = {subset: 0.01 * sum(subset) for subset in itertools.combinations(range(4), 2)}
        missing = made(1, gains, status="failed")
        found = paired_difference(rows.frame(made(0, gains) + missing)).iloc[0]
        assert found["unit"] == "member"
        assert found["warnings"][:2] == ("6 pairs left out: failed", "1 pool without a usable pair")


class TestOtherScalesAndUnits:
    def test_log_odds_are_those_of_counts_with_halves(self) -> None:
        made_rows = [
            rows.candidate(pool, (0, 1), method, accuracy=right / 360)
            for pool, pair in enumerate([(350, 355), (360, 358), (357, 357)])
            for method, right in zip(("uniform_soup", "logit_average"), pair, strict=True)
        ]
        found = paired_difference(rows.frame(made_rows), scale="log_odds").iloc[0]
        odds = {right: math.log((right + 0.5) / (360 - right + 0.5)) for right in (350, 355, 357, 358, 360)}
        values = [odds[350] - odds[355], odds[360] - odds[358], 0.0]
        interval = stats.ttest_1samp(values, 0).confidence_interval()
        np.testing.assert_allclose(
            found[["estimate", "low", "high"]].astype(float), [np.mean(values), interval.low, interval.high]
        )
        assert found["estimand"].startswith("log-odds of accuracy: uniform_soup minus logit_average")
        assert "near the ceiling: mean accuracy 98.9%" in paired_difference(rows.frame(made_rows))["warnings"][0][0]
        assert not any("ceiling" in text for text in found["warnings"])
        with pytest.raises(AnalysisError, match="no number of examples for log-odds"):
            paired_difference(rows.frame([row | {"n_examples": None} for row in made_rows]), scale="log_odds")
        with pytest.raises(AnalysisError, match="did you mean `log_odds`"):
            paired_difference(rows.frame(made_rows), scale="log_odd")  # type: ignore[arg-type]

    def test_members_of_all_pools_are_left_out_one_by_one(self) -> None:
        random = np.random.default_rng(0)
        subsets = list(itertools.combinations(range(4), 2))
        gains = random.normal(0, 1, (3, len(subsets)))
        made_rows = []
        for pool, own in enumerate(gains):
            for subset, gain in zip(subsets, own, strict=True):
                made_rows.append(rows.candidate(pool, subset, "uniform_soup", accuracy=gain, start="scratch"))
                made_rows.append(rows.candidate(pool, subset, "logit_average", accuracy=0.0, start="scratch"))
        found = paired_difference(rows.frame(made_rows), over="members").iloc[0]
        each = [
            (pool, set(subset), gain) for pool in range(3) for subset, gain in zip(subsets, gains[pool], strict=True)
        ]
        left = [
            np.mean([gain for other, subset, gain in each if (other, member) != (pool, member) or member not in subset])
            for pool, member in itertools.product(range(3), range(4))
        ]
        assert found["estimate"] == pytest.approx(gains.mean())
        assert found["se"] == pytest.approx(math.sqrt(11 / 12 * ((left - np.mean(left)) ** 2).sum()))
        assert (found["unit"], found["n_units"], found["df"]) == ("member", 12, 11)
        shared = rows.frame([row | {"start": "shared"} for row in made_rows])
        with pytest.raises(AnalysisError, match="pools of a start `shared` are no groups of exchangeable members"):
            paired_difference(shared, over="members")

    def test_the_bootstrap_interval_has_the_standard_error_of_students(self) -> None:
        values = [0.01, 0.03, -0.01, 0.02, 0.015, 0.12]
        found = paired_difference(rows.frame(pools(values))).iloc[0]
        low, high = bootstrap_t([np.array(values)], [1.0])
        assert found["bootstrap_low"] == pytest.approx(np.mean(values) - high * stats.sem(values))
        assert found["bootstrap_high"] == pytest.approx(np.mean(values) - low * stats.sem(values))
        assert math.isnan(paired_difference(rows.frame(pools(values[:5])))["bootstrap_low"].item())
        assert any("one of 6 pools has" in text for text in found["warnings"])
