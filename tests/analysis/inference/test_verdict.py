"""Estimates against scipy, corrections for families of tests against their definitions, and verdicts."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import (
    BEYOND_MARGIN,
    DIFFERENT,
    EQUIVALENT,
    INCONCLUSIVE,
    Estimate,
    Question,
    beyond_margin_p,
    equivalence_p,
    pool_mean,
    student,
    unit_mean,
    verdict_of,
)
from analysis.inference.resampling import leave_one_member_out, sign_flip_p
from analysis.inference.verdict import MOST_CLAIMS, adjust_and_judge, adjust_p_values

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6)
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=15)
NAN = math.nan


def quiet(values: list[float], null: float, alternative: str = "two-sided") -> Any:
    """scipy's t test, which warns of values that hardly differ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return stats.ttest_1samp(values, null, alternative=alternative)


@settings(deadline=None)
@given(VALUES)
def test_the_interval_is_students(values: list[float]) -> None:
    found = pool_mean(values, null=0.25)
    reference = quiet(values, 0.25)
    interval = reference.confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], [interval.low, interval.high], rtol=1e-9, atol=1e-9)
    assert found.p == pytest.approx(reference.pvalue, rel=1e-6, abs=1e-12)
    assert (found.n_units, found.df) == (len(values), len(values) - 1)


@settings(deadline=None)
@given(VALUES, st.floats(0.01, 1e3))
def test_equivalence_is_the_larger_of_two_one_sided_t_tests(values: list[float], margin: float) -> None:
    found = pool_mean(values, null=0.0)
    both = quiet(values, -margin, "greater").pvalue, quiet(values, margin, "less").pvalue
    p = equivalence_p(found.estimate, found.se, found.df, margin)
    assert p == pytest.approx(max(both), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(VALUES, st.floats(0.01, 1e3))
def test_the_verdict_is_what_the_intervals_show(values: list[float], margin: float) -> None:
    found = pool_mean(values, null=0.0, margin=margin)
    inner = quiet(values, 0).confidence_interval(0.90)
    if -margin < inner.low and inner.high < margin:
        assert found.verdict == EQUIVALENT
    elif found.low > margin or found.high < -margin:
        assert found.verdict == BEYOND_MARGIN
    else:
        assert found.verdict == (DIFFERENT if found.low > 0 or found.high < 0 else INCONCLUSIVE)


def test_a_difference_too_small_to_matter_is_equivalent() -> None:
    found = pool_mean([0.0010, 0.0011, 0.0012, 0.0013], null=0.0, margin=0.005)
    assert found.p is not None
    assert found.p < 0.001
    assert found.verdict == EQUIVALENT
    assert pool_mean([0.0010, 0.0011, 0.0012, 0.0013], null=0.0).verdict == DIFFERENT
    assert pool_mean([0.0010, 0.0011], margin=0.005).verdict == ""


def test_a_verdict_needs_p() -> None:
    assert verdict_of(None, None, None) == INCONCLUSIVE
    assert verdict_of(0.04, 0.06, 0.06) == DIFFERENT
    assert verdict_of(0.04, 0.04, 0.06) == EQUIVALENT
    assert verdict_of(0.04, 0.96, 0.04) == BEYOND_MARGIN
    assert verdict_of(0.06, 0.06, 0.06) == INCONCLUSIVE
    assert verdict_of(0.06, 0.06, 0.06, alpha=0.1) == EQUIVALENT


@given(VALUES, st.floats(0.01, 1e3))
def test_the_minimum_effect_test_is_twice_the_smaller_one_sided_p(values: list[float], margin: float) -> None:
    found = pool_mean(values, null=0.0)
    both = quiet(values, margin, "greater").pvalue, quiet(values, -margin, "less").pvalue
    p = beyond_margin_p(found.estimate, found.se, found.df, margin)
    assert p == pytest.approx(min(1.0, 2 * min(both)), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("margin", [0.0, -0.005, NAN])
def test_a_margin_that_is_not_above_zero_is_refused(margin: float) -> None:
    with pytest.raises(AnalysisError, match=r"margin: .* is not above 0"):
        pool_mean([0.1, 0.2], null=0.0, margin=margin)


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3 pool values are not finite"):
        pool_mean([1.0, NAN, 2.0])


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [0.91 - 0.9, 0.81 - 0.8, 0.31 - 0.3], [0.0, 0.0]])
def test_units_without_spread_warn_and_have_no_p(values: list[float]) -> None:
    found = pool_mean(values, null=0.0)
    assert (found.low, found.high, found.se, found.p) == (found.estimate, found.estimate, 0.0, None)
    assert found.verdict == INCONCLUSIVE
    assert "no spread between pools" in found.warnings[0]


def test_fewer_than_two_units_have_no_interval() -> None:
    none = pool_mean([])
    one = unit_mean(np.array([0.3]), Question("gain", "cell", 0.0), ["an earlier warning"])
    assert math.isnan(none.estimate)
    assert none.warnings == ("no pool: nothing to estimate",)
    assert (one.estimate, one.low, one.high, one.p) == (0.3, -math.inf, math.inf, None)
    assert one.warnings == ("an earlier warning", "one cell: no interval can be given")


def holm(p: list[float]) -> list[float]:
    """By definition: the smallest level at which the step-down procedure rejects, from the smallest p up."""
    order = sorted(range(len(p)), key=p.__getitem__)
    found = [0.0] * len(p)
    for rank, index in enumerate(order):
        found[index] = min(1.0, max((len(p) - before) * p[order[before]] for before in range(rank + 1)))
    return found


@given(P_VALUES)
def test_holm_is_its_definition(p: list[float]) -> None:
    np.testing.assert_allclose(adjust_p_values(np.array(p), "holm"), holm(p), rtol=1e-12)


@given(P_VALUES)
def test_bh_is_scipys(p: list[float]) -> None:
    np.testing.assert_allclose(adjust_p_values(np.array(p), "bh"), stats.false_discovery_control(p), rtol=1e-12)


@given(P_VALUES, st.randoms(use_true_random=False), st.sampled_from(["none", "holm", "bh"]))
def test_missing_p_do_not_count_and_order_does_not_matter(p: list[float], random: Any, correction: Any) -> None:
    mixed = [*p, NAN, NAN]
    random.shuffle(mixed)
    found = adjust_p_values(np.array(mixed), correction)
    known = ~np.isnan(mixed)
    np.testing.assert_array_equal(np.isnan(found), ~known)
    np.testing.assert_allclose(np.sort(found[known]), np.sort(adjust_p_values(np.array(p), correction)))
    assert (found[known] >= np.array(mixed)[known] * (1 - 1e-12)).all()


def test_an_unknown_correction_is_answered_with_those_there_are() -> None:
    with pytest.raises(AnalysisError, match="known: `bh`, `holm`, `none`"):
        adjust_p_values(np.array([0.1]), "bonferroni")  # type: ignore[arg-type]


def family(*rows: Estimate) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows])


def asked(estimate: float, se: float, margin: float | None = 0.5) -> Estimate:
    return student(estimate, se, 9.0, 10, Question("difference", "pool", 0.0, margin))


def test_a_family_is_judged_by_corrected_p() -> None:
    alone = asked(2.4, 1.0), asked(4.0, 1.0), asked(0.0, 0.2), asked(0.1, 0.2)
    assert [row.verdict for row in alone] == [DIFFERENT, BEYOND_MARGIN, EQUIVALENT, EQUIVALENT]
    found = adjust_and_judge(family(*alone), "holm")
    np.testing.assert_allclose(found["p_adjusted"], holm([row.p or NAN for row in alone]))
    near = holm([equivalence_p(row.estimate, row.se, row.df, 0.5) or NAN for row in alone])
    assert near[2] < 0.07
    assert found["verdict"].tolist() == [INCONCLUSIVE, BEYOND_MARGIN, INCONCLUSIVE, INCONCLUSIVE]
    assert adjust_and_judge(family(*alone), "none")["verdict"].tolist() == [row.verdict for row in alone]
    assert adjust_and_judge(family(*alone), "bh", alpha=0.10)["verdict"].tolist() == [row.verdict for row in alone]


def test_what_cannot_be_judged_or_was_not_asked_stays_so() -> None:
    level = pool_mean([0.8, 0.9])
    alone = pool_mean([0.1], null=0.0, margin=0.5)
    found = adjust_and_judge(family(level, alone, asked(9.0, 1.0, margin=None)), "holm")
    assert found["verdict"].tolist() == ["", INCONCLUSIVE, DIFFERENT]
    assert found["p_adjusted"].isna().tolist() == [True, True, False]
    assert found.loc[2, "p_adjusted"] == found.loc[2, "p"]


def test_a_large_family_is_corrected_with_a_warning() -> None:
    many = family(*[asked(1.0, 1.0)] * (MOST_CLAIMS + 1))
    found = adjust_and_judge(many, "holm")
    assert set(found["warnings"]) == {("corrected as one of 13: there is little power beyond 12",)}
    np.testing.assert_allclose(found["p_adjusted"], holm(many["p"].tolist()))
    assert not adjust_and_judge(many.iloc[1:], "holm")["warnings"].map(len).any()
    assert not adjust_and_judge(many, "bh")["warnings"].map(len).any()
    assert adjust_and_judge(many.iloc[:0], "bh").empty


@pytest.mark.parametrize(
    "values", [[1, 2, 3, 4, 5, 6], [-1, 2, 2, 3, -1, 4, 0], [0.3, -0.1, 0.2, 0.2, 0.1, 0.5, -0.4, 0.7]]
)
def test_the_sign_flip_is_exact(values: list[float]) -> None:
    one = np.array(values, float)
    sums = [abs(float(np.dot(one, signs))) for signs in itertools.product((1, -1), repeat=len(one))]
    brute = np.mean([total >= abs(one.sum()) - 1e-9 for total in sums])
    assert sign_flip_p(one) == pytest.approx(brute, rel=1e-12)
    assert sign_flip_p(-one) == sign_flip_p(one)


def test_the_sign_flip_needs_six_pools_and_stands_thirty_two() -> None:
    assert math.isnan(sign_flip_p(np.ones(5)))
    assert sign_flip_p(np.ones(6)) == 2 / 2**6
    assert sign_flip_p(np.ones(32)) == 2 / 2**32
    assert math.isnan(sign_flip_p(np.ones(33)))
    assert sign_flip_p(np.zeros(6)) == 1.0


def test_members_left_out_by_hand() -> None:
    # Without a, b, c the means are 4, 2 and 1: deviations from 7/3 are 5/3, -1/3, -4/3, and V = 2/3 (25 + 1 + 16) / 9.
    se, members = leave_one_member_out(np.array([1.0, 2.0, 4.0]), [["a", "b"], ["a", "c"], ["b", "c"]])
    assert (se, members) == (pytest.approx(math.sqrt(28 / 9)), 3)
    se, members = leave_one_member_out(np.array([1.0, 2.0]), [["a", "b"], ["a", "c"]])
    assert math.isnan(se)
    assert leave_one_member_out(np.array([0.1, 0.1, 0.1]), [["a", "b"], ["a", "c"], ["b", "c"]]) == (0.0, 3)


def test_members_left_out_of_subsets_of_one_are_their_standard_error() -> None:
    values = np.array([0.3, 0.1, 0.7, 0.2])
    se, _ = leave_one_member_out(values, [["a"], ["b"], ["c"], ["d"]])
    assert se == pytest.approx(stats.sem(values))
