"""Differences on identical subsets: exact cases, one pool, cells, examples, and the pools that a comparison needs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rows
from scipy import stats

from analysis.errors import AnalysisError, NothingToDrawError
from analysis.estimate import DIFFERENT, EQUIVALENT, INCONCLUSIVE
from analysis.frames import unscaled
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.pool_means import pool_means
from analysis.statistics.power import power
from analysis.statistics.two_way_difference import two_way_difference

Pairs = Mapping[tuple[int, ...], float]


def made(pool: int, gains: Pairs, population: str = "people", **values: Any) -> list[dict[str, Any]]:
    """Soups that beat the logit average on the same subset by some accuracy."""
    both = (("uniform_soup", "weights"), ("logit_average", "logits"))
    return [
        rows.candidate(pool, subset, method, space=space, population=population, **(values | {"accuracy": level}))
        for subset, gain in gains.items()
        for (method, space), level in zip(both, (0.5 + gain, 0.5), strict=True)
    ]


def pools(gains: Sequence[float], population: str = "people") -> list[dict[str, Any]]:
    """One pair per pool."""
    return [row for pool, gain in enumerate(gains) for row in made(pool, {(0, 1): gain}, population)]


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

    def test_signs_are_told_beside_t(self) -> None:
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
        assert paired_difference(rows.frame(pools([0.1, 0.11, 0.12])), margin=0.005)["verdict"].item() == DIFFERENT


class TestCells:
    first, second = [0.01, 0.05, 0.03, 0.02], [0.02, -0.04, 0.03]

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

    def test_cells_without_spread_or_rows_are_told(self) -> None:
        flat = paired_difference(rows.frame(pools([0.1] * 3, "one") + pools([0.2] * 4, "two")), over="these cells")
        assert (flat["se"].item(), flat["df"].item(), flat["p"].item()) == (0.0, 5.0, None)
        lost = self.frame().assign(status="failed", accuracy=np.nan)
        found = paired_difference(lost, over="these cells")
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
        assert found["warnings"] == ("one pool: the interval speaks of the members of this pool",)
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

    def test_a_pool_that_lost_the_others_is_one_pool(self) -> None:
        gains = {subset: 0.01 * sum(subset) for subset in itertools.combinations(range(4), 2)}
        lost = made(1, gains, status="failed")
        found = paired_difference(rows.frame(made(0, gains) + lost)).iloc[0]
        assert found["unit"] == "member"
        assert found["warnings"][:2] == ("6 pairs left out: failed", "1 pool without a usable pair")


def bits(told: Sequence[Mapping[str, Any]], right: np.ndarray) -> pd.DataFrame:
    """Predictions of some candidates, from whether each was right, shape (candidates, examples)."""
    found = [
        {"candidate_id": one["candidate_id"], "split": "test", "n_examples": right.shape[1]}
        | {"correct": np.packbits(own).tobytes(), "classes": b""}
        for one, own in zip(told, right, strict=True)
    ]
    return rows.frame(found, "predictions")


class TestTwoWays:
    examples = 37

    def sweep(self, n_pools: int = 4, seed: int = 0) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Singles and pairs of three members per pool, with accuracies that are those of their bits."""
        random = np.random.default_rng(seed)
        told = []
        for pool in range(n_pools):
            told += [rows.candidate(pool, (index,), "single") for index in range(3)]
            told += made(pool, dict.fromkeys(itertools.combinations(range(3), 2), 0.0))
        hard = random.uniform(0.3, 1, self.examples)
        right = random.random((len(told), self.examples)) < hard
        for one, own in zip(told, right, strict=True):
            one["accuracy"] = own.mean()
        return told, right

    def by_hand(self, told: list[dict[str, Any]], right: np.ndarray) -> tuple[float, float, float, float]:
        """The estimate, both standard errors and that of the estimate, from sums of squares in loops."""
        of = {
            (one["pool"], one["method"], tuple(one["member_indices"])): own
            for one, own in zip(told, right, strict=True)
        }
        n_pools = 1 + max(one["pool"] for one in told)
        d = np.zeros((n_pools, self.examples))
        for pool, subset in itertools.product(range(n_pools), itertools.combinations(range(3), 2)):
            d[pool] += (of[pool, "uniform_soup", subset].astype(int) - of[pool, "logit_average", subset]) / 3
        pools, examples, mean = d.mean(1), d.mean(0), d.mean()
        cells = list(itertools.product(range(n_pools), range(self.examples)))
        ms_rest = sum((d[i, j] - pools[i] - examples[j] + mean) ** 2 for i, j in cells)
        ms_rest /= (n_pools - 1) * (self.examples - 1)
        se_pools, se_examples = stats.sem(pools), stats.sem(examples)
        variance = se_pools**2 + se_examples**2 - ms_rest / d.size
        return mean, se_pools, se_examples, math.sqrt(max(variance, se_pools**2))

    def test_both_ways_by_hand(self) -> None:
        floored = []
        for seed in range(6):
            told, right = self.sweep(seed=seed)
            found = two_way_difference(rows.frame(told), bits(told, right), margin=0.5).iloc[0]
            reference = self.by_hand(told, right)
            np.testing.assert_allclose(found[["estimate", "se_pools", "se_examples", "se"]].astype(float), reference)
            assert (found["unit"], found["n_units"], found["df"], found["margin"]) == ("pool", 4, 3, 0.5)
            floored.append(found["se"] == found["se_pools"])
        assert set(floored) == {True, False}

    @pytest.mark.parametrize("b", ["logit_average", "mean_member"])
    def test_over_pools_it_is_the_paired_difference(self, b: str) -> None:
        told, right = self.sweep()
        found = two_way_difference(rows.frame(told), bits(told, right), b=b).iloc[0]
        paired = paired_difference(rows.frame(told), b=b).iloc[0]
        np.testing.assert_allclose(
            found[["estimate", "se_pools"]].astype(float), paired[["estimate", "se"]].astype(float)
        )

    def test_candidates_without_predictions_are_counted(self) -> None:
        told, right = self.sweep()
        known = bits(told, right)
        soup = next(one["candidate_id"] for one in told if one["method"] == "uniform_soup")
        found = two_way_difference(rows.frame(told), known[known["candidate_id"] != soup]).iloc[0]
        assert found["warnings"] == ("1 pair left out: no predictions",)
        blank = known.assign(correct=known["correct"].mask(known["candidate_id"] == soup, None))
        assert two_way_difference(rows.frame(told), blank)["estimate"].item() == found["estimate"]
        with pytest.raises(NothingToDrawError, match="no predictions of these methods"):
            two_way_difference(rows.frame(told), known[known["candidate_id"] == "of another run"])

    def test_rows_that_failed_leave_nothing_to_estimate(self) -> None:
        told, right = self.sweep()
        lost = rows.frame([one | {"status": "failed", "accuracy": 0.0} for one in told])
        found = two_way_difference(lost, bits(told, right)).iloc[0]
        assert (found["n_units"], math.isnan(found["estimate"])) == (0, True)
        assert found["warnings"][0] == "12 pairs left out: failed"

    def test_one_pool_has_the_spread_over_examples_alone(self) -> None:
        told, right = self.sweep(1)
        found = two_way_difference(rows.frame(told), bits(told, right)).iloc[0]
        assert (found["low"], found["high"]) == (-math.inf, math.inf)
        assert found["se_examples"] > 0
        assert math.isnan(found["se_pools"])

    def test_other_test_sets_in_one_group_are_refused(self) -> None:
        told, right = self.sweep(2)
        first, second = [one for one in told if one["pool"] == 0], [one for one in told if one["pool"] == 1]
        half = len(first)
        short = pd.concat([bits(first, right[:half]), bits(second, right[half:, :20])])
        with pytest.raises(AnalysisError, match="a group mixes test sets of 20 and 37 examples"):
            two_way_difference(rows.frame(told), short)
        other = rows.frame(first + [one | {"dataset": "svhn"} for one in second])
        with pytest.raises(AnalysisError, match="a group mixes several data sets"):
            two_way_difference(other, bits(told, right))
        with pytest.raises(AnalysisError, match="fewer than two examples"):
            two_way_difference(rows.frame(told), bits(told, right[:, :1]))
        with pytest.raises(AnalysisError, match="has not one bit per example"):
            two_way_difference(rows.frame(told), bits(told, right).assign(n_examples=360))


class TestPower:
    def two(self, deviation: float) -> pd.DataFrame:
        """Two pools whose differences have this standard deviation."""
        return rows.frame(pools([0.1 - deviation / math.sqrt(2), 0.1 + deviation / math.sqrt(2)]))

    def test_the_deviation_has_chi_squares_interval(self) -> None:
        gains = [0.01, 0.02, -0.005, 0.03]
        found = power(rows.frame(pools(gains))).iloc[0]
        deviation, chi2 = np.std(gains, ddof=1), stats.chi2(3)
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
        random, times = np.random.default_rng(0), 20_000
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

    def test_one_pool_tells_nothing_and_equal_pools_need_two(self) -> None:
        alone = power(rows.frame(pools([0.1]))).iloc[0]
        assert alone[["pools_needed", "pools_for_equivalence"]].isna().all()
        assert (alone["low"], alone["high"]) == (-math.inf, math.inf)
        assert alone["warnings"] == ("one pool: no spread to measure",)
        equal = power(rows.frame(pools([0.91 - 0.9, 0.81 - 0.8]))).iloc[0]
        assert (equal["estimate"], equal["pools_needed"], equal["pools_for_equivalence"]) == (0.0, 2, 2)
        assert "no spread" in equal["warnings"][0]

    @pytest.mark.parametrize(("name", "value"), [("effect", 0.0), ("power", 1.0), ("power", 0.01)])
    def test_settings_that_mean_nothing_are_refused(self, name: str, value: float) -> None:
        with pytest.raises(AnalysisError, match=f"{name}: {value} is not"):
            power(self.two(0.01), **{name: value})
