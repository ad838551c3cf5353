"""Differences over pools and examples, from predictions: sums of squares by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.rows.contrasts import contrast
from analysis.rows.select import MEAN_MEMBER
from analysis.statistics._difference import over_images
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.two_way_difference import two_way_difference
from tests.helpers import rows
from tests.helpers.gains import made

METHODS = ("uniform_soup", "logit_average")


def bits(candidates: Sequence[Mapping[str, Any]], right: np.ndarray) -> pd.DataFrame:
    """Predictions of some candidates, from whether each was right, shape (candidates, examples)."""
    found = [
        {"candidate_id": one["candidate_id"], "split": "test", "n_examples": right.shape[1]}
        | {"correct": np.packbits(own).tobytes(), "classes": b""}
        for one, own in zip(candidates, right, strict=True)
    ]
    return rows.frame(found, "predictions")


class TestTwoWays:
    examples = 37

    def sweep(self, n_pools: int = 4, seed: int = 0) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Singles and pairs of three members per pool, with accuracies that are those of their bits."""
        random = np.random.default_rng(seed)
        candidates = []
        for pool in range(n_pools):
            candidates += [rows.candidate(pool, (index,), "single") for index in range(3)]
            candidates += made(pool, dict.fromkeys(itertools.combinations(range(3), 2), 0.0))
        hard = random.uniform(0.3, 1, self.examples)
        right = random.random((len(candidates), self.examples)) < hard
        for one, own in zip(candidates, right, strict=True):
            one["accuracy"] = own.mean()
        return candidates, right

    def by_hand(self, candidates: list[dict[str, Any]], right: np.ndarray) -> tuple[float, float, float, float]:
        """The estimate, both standard errors and that of the estimate, from sums of squares in loops."""
        of = {
            (one["pool"], one["method"], tuple(one["member_indices"])): own
            for one, own in zip(candidates, right, strict=True)
        }
        n_pools = 1 + max(one["pool"] for one in candidates)
        d = np.zeros((n_pools, self.examples))
        for pool, subset in itertools.product(range(n_pools), itertools.combinations(range(3), 2)):
            d[pool] += (of[pool, "uniform_soup", subset].astype(int) - of[pool, "logit_average", subset]) / 3
        pools = d.mean(1)
        examples = d.mean(0)
        mean = d.mean()
        cells = list(itertools.product(range(n_pools), range(self.examples)))
        ms_rest = sum((d[i, j] - pools[i] - examples[j] + mean) ** 2 for i, j in cells)
        ms_rest /= (n_pools - 1) * (self.examples - 1)
        se_pools = stats.sem(pools)
        se_examples = stats.sem(examples)
        variance = se_pools**2 + se_examples**2 - ms_rest / d.size
        return mean, se_pools, se_examples, math.sqrt(max(variance, se_pools**2))

    def test_both_ways_by_hand(self) -> None:
        floored = []
        for seed in range(6):
            candidates, right = self.sweep(seed=seed)
            found = two_way_difference(rows.frame(candidates), bits(candidates, right), margin=0.5).iloc[0]
            reference = self.by_hand(candidates, right)
            np.testing.assert_allclose(found[["estimate", "se_pools", "se_examples", "se"]].astype(float), reference)
            assert (found["unit"], found["n_units"], found["df"], found["margin"]) == ("pool", 4, 3, 0.5)
            floored.append(found["se"] == found["se_pools"])
        assert set(floored) == {True, False}

    @pytest.mark.parametrize("b", ["logit_average", "mean_member"])
    def test_over_pools_it_is_the_paired_difference(self, b: str) -> None:
        candidates, right = self.sweep()
        found = two_way_difference(rows.frame(candidates), bits(candidates, right), b=b).iloc[0]
        paired = paired_difference(rows.frame(candidates), b=b).iloc[0]
        np.testing.assert_allclose(
            found[["estimate", "se_pools"]].astype(float), paired[["estimate", "se"]].astype(float)
        )

    def test_candidates_without_predictions_are_counted(self) -> None:
        candidates, right = self.sweep()
        known = bits(candidates, right)
        soup = next(one["candidate_id"] for one in candidates if one["method"] == "uniform_soup")
        found = two_way_difference(rows.frame(candidates), known[known["candidate_id"] != soup]).iloc[0]
        assert found["warnings"] == ("1 pair left out: no predictions",)
        blank = known.assign(correct=known["correct"].mask(known["candidate_id"] == soup, None))
        assert two_way_difference(rows.frame(candidates), blank)["estimate"].item() == found["estimate"]
        with pytest.raises(NothingToDrawError, match="no predictions of these methods"):
            two_way_difference(rows.frame(candidates), known[known["candidate_id"] == "of another run"])

    def test_rows_that_failed_leave_nothing_to_estimate(self) -> None:
        candidates, right = self.sweep()
        missing = rows.frame([one | {"status": "failed", "accuracy": 0.0} for one in candidates])
        found = two_way_difference(missing, bits(candidates, right)).iloc[0]
        assert (found["n_units"], math.isnan(found["estimate"])) == (0, True)
        assert found["warnings"][0] == "12 pairs left out: failed"

    def test_one_pool_has_the_spread_over_examples_alone(self) -> None:
        candidates, right = self.sweep(1)
        found = two_way_difference(rows.frame(candidates), bits(candidates, right)).iloc[0]
        assert (found["low"], found["high"]) == (-math.inf, math.inf)
        assert found["se_examples"] > 0
        assert math.isnan(found["se_pools"])

    def test_other_test_sets_in_one_group_are_refused(self) -> None:
        candidates, right = self.sweep(2)
        first = [one for one in candidates if one["pool"] == 0]
        second = [one for one in candidates if one["pool"] == 1]
        half = len(first)
        short = pd.concat([bits(first, right[:half]), bits(second, right[half:, :20])])
        with pytest.raises(AnalysisError, match="a group mixes test sets of 20 and 37 examples"):
            two_way_difference(rows.frame(candidates), short)
        other = rows.frame(first + [one | {"dataset": "svhn"} for one in second])
        with pytest.raises(AnalysisError, match="a group mixes several data sets"):
            two_way_difference(other, bits(candidates, right))
        with pytest.raises(AnalysisError, match="fewer than two examples"):
            two_way_difference(rows.frame(candidates), bits(candidates, right[:, :1]))
        with pytest.raises(AnalysisError, match="has not one bit per example"):
            two_way_difference(rows.frame(candidates), bits(candidates, right).assign(n_examples=360))

    @pytest.mark.parametrize("b", ["logit_average", MEAN_MEMBER])
    def test_a_claim_has_the_same_estimate(self, b: str) -> None:
        candidates, right = self.sweep(6)
        tables = rows.frame(candidates), bits(candidates, right)
        found = contrast(tables[0], "uniform_soup", b, margin=0.1, predictions=tables[1])
        reference = two_way_difference(*tables, b=b, margin=0.1).iloc[0]
        for name in ("estimate", "se", "df", "low", "high", "p", "p_equivalent"):
            assert getattr(found.estimate, name) == pytest.approx(reference[name])
        assert found.bootstrap == pytest.approx((reference["bootstrap_low"], reference["bootstrap_high"]))
        assert found.estimate.estimand.endswith("for new seeds and new test images, this training split")

    def test_sizes_weigh_the_same_in_a_claim(self) -> None:
        candidates, right = self.sweep()
        whole = [rows.candidate(pool, (0, 1, 2), method) for pool in range(4) for method in METHODS]
        more = np.random.default_rng(9).random((len(whole), self.examples)) < 0.7
        for one, own in zip(whole, more, strict=True):
            one["accuracy"] = own.mean()
        tables = rows.frame(candidates + whole), bits(candidates + whole, np.concatenate([right, more]))
        values = contrast(tables[0], *METHODS, margin=0.1, predictions=tables[1])
        assert values.examples is not None
        means = [values.examples[pool].values.mean() for pool in values.frame["pool_id"]]
        np.testing.assert_allclose(means, values.frame["value"], atol=1e-12)

    def test_without_predictions_of_every_pair_a_claim_is_for_these_images(self) -> None:
        candidates, right = self.sweep()
        known = bits(candidates, right)
        soup = next(one["candidate_id"] for one in candidates if one["method"] == "uniform_soup")
        for table in (None, known.iloc[:0], known[known["candidate_id"] != soup]):
            found = contrast(rows.frame(candidates), *METHODS, margin=0.1, predictions=table)
            assert found.examples is None
            assert found.estimate.estimand.endswith("for new seeds, these test images, this training split")
            assert found.estimate.se == pytest.approx(paired_difference(rows.frame(candidates))["se"].item())

    def test_tables_and_figures_have_it_where_predictions_are_kept(self) -> None:
        candidates, right = self.sweep()
        frame = rows.frame(candidates)
        known = bits(candidates, right)
        reference = two_way_difference(frame, known)
        paired = paired_difference(frame)
        found = over_images(paired, known, lambda table: two_way_difference(frame, table))
        for name in ("estimand", "low", "high", "se", "p", "bootstrap_low"):
            pd.testing.assert_series_equal(found[name], reference[name])
        soup = next(one["candidate_id"] for one in candidates if one["method"] == "uniform_soup")
        for table in (None, known.iloc[:0], known[known["candidate_id"] != soup]):
            kept = over_images(paired, table, lambda part: two_way_difference(frame, part))
            pd.testing.assert_frame_equal(kept, paired)

    def test_methods_that_never_disagree_are_bounded(self) -> None:
        candidates, right = self.sweep()
        of_soup = [index for index, one in enumerate(candidates) if one["method"] == "uniform_soup"]
        of_logits = [index for index, one in enumerate(candidates) if one["method"] == "logit_average"]
        right[of_logits] = right[of_soup]
        for one, own in zip(candidates, right, strict=True):
            one["accuracy"] = own.mean()
        found = two_way_difference(rows.frame(candidates), bits(candidates, right), margin=0.1).iloc[0]
        bound = stats.binomtest(0, 37, alternative="less").proportion_ci(0.95, "exact").high
        assert (found["low"], found["high"]) == (pytest.approx(-bound), pytest.approx(bound))
        assert found["verdict"] == "equivalent"
        claim = contrast(rows.frame(candidates), *METHODS, margin=0.1, predictions=bits(candidates, right))
        assert claim.estimate.verdict == "equivalent"
        blind = contrast(rows.frame(candidates), *METHODS, margin=0.1).estimate
        assert blind.verdict == "inconclusive"
        assert any("predictions of the test images would bound" in text for text in blind.warnings)
