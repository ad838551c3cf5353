"""The family of claims: who belongs to it, what counts once, and which correction it gets."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis.inference.estimate import EQUIVALENT, INCONCLUSIVE, Question
from analysis.inference.finding import Finding, PoolValues
from analysis.inference.max_t import FEWEST
from analysis.inference.sequential import KEPT
from analysis.inference.verdict import MOST_CLAIMS, adjust_p_values
from analysis.report.family import History, families, judge_family
from analysis.report.looks import Look, look_at
from analysis.rows.declared import PoolPlan

QUESTION = Question("difference", "pool", 0.0, 0.5)
FRESH = History()
TIMES = [f"2026-01-0{day}T00:00:00Z" for day in range(1, 8)]


def finding(values: list[float] | np.ndarray, population: str = "people") -> Finding:
    frame = pd.DataFrame({"value": np.asarray(values, float)})
    frame = frame.assign(population=population, pool_id=[f"{population}-{n}" for n in range(len(frame))])
    return Finding(PoolValues(frame, QUESTION), "zero", "spaces")


def drawn(pools: int, claims: int = 3, effect: float = 0.9) -> dict[str, Finding]:
    values = np.random.default_rng(11).normal(effect, 1, (pools, 1)) + np.random.default_rng(12).normal(
        0, 0.5, (pools, claims)
    )
    return {f"claim{n}": finding(values[:, n]) for n in range(claims)}


def raw_p(findings: dict[str, Finding]) -> np.ndarray:
    return np.array([one.values.estimate.p for one in findings.values()], float)


def adjusted(findings: dict[str, Finding], history: History = FRESH) -> np.ndarray:
    judged = judge_family(findings, history)
    return np.array([one.finding.estimate.p_adjusted for one in judged.values()], float)


def test_declared_claims_are_one_family_and_others_are_none() -> None:
    tables = {"a": ("candidates",), "b": ("templates",), "c": ("candidates",)}
    assert families(tables, None) == [["a", "c"], ["b"]]
    assert families(tables, ["b", "a", "unknown"]) == [["a", "b"]]


def test_few_pools_are_corrected_by_holm_and_more_by_max_t() -> None:
    few = drawn(FEWEST - 1)
    np.testing.assert_allclose(adjusted(few), adjust_p_values(raw_p(few), "holm"), rtol=1e-12)
    many = drawn(FEWEST, effect=0.5)
    found = adjusted(many)
    assert (found * 2 ** (FEWEST - 1) % 1 == 0).all(), "a share of the choices of signs"
    holm = adjust_p_values(raw_p(many), "holm")
    assert holm.max() > 0.05
    assert (found < holm).all()


def test_the_same_values_up_to_their_sign_count_once() -> None:
    findings = drawn(6, claims=2)
    alone = adjusted(findings)
    values = findings["claim0"].values.frame["value"].to_numpy()
    twice = findings | {"opposite": finding(-values), "rounded": finding(values * (1 + 1e-13))}
    found = adjusted(twice)
    np.testing.assert_array_equal(found[:2], alone)
    assert found[2] == found[3] == alone[0]
    other = adjusted(findings | {"other": finding(values + 0.01)})
    assert other[0] > alone[0]


def test_the_simultaneous_interval_is_wider_and_agrees_with_the_verdict() -> None:
    for pools in (6, FEWEST):
        for one in judge_family(drawn(pools), History()).values():
            estimate = one.finding.estimate
            low, high = one.simultaneous
            assert low < estimate.low < estimate.high < high
            assert low + high == pytest.approx(2 * estimate.estimate)
            if low > 0:
                assert estimate.p_adjusted is not None
                assert estimate.p_adjusted <= 0.05


def test_claims_without_spread_stay_undecided_and_do_not_count() -> None:
    findings = drawn(6, claims=2)
    judged = judge_family(findings | {"flat": finding([0.1] * 6)}, History())
    flat = judged["flat"].finding.estimate
    assert (flat.verdict, flat.p_adjusted, judged["flat"].needs) == (INCONCLUSIVE, None, None)
    np.testing.assert_array_equal([one.finding.estimate.p_adjusted for one in judged.values()][:2], adjusted(findings))


def test_a_large_family_is_judged_with_a_warning() -> None:
    found = judge_family(drawn(6, claims=MOST_CLAIMS + 1), History())
    for one in found.values():
        assert one.finding.estimate.warnings[-1].startswith(f"corrected as one of {MOST_CLAIMS + 1}")
    assert not judge_family(drawn(6, claims=2), History())["claim0"].finding.estimate.warnings


def looks(name: str, values: np.ndarray, *pools: int) -> list[Look]:
    return [look_at(name, finding(values[:n]), INCONCLUSIVE, time) for n, time in zip(pools, TIMES, strict=False)]


def test_a_look_before_the_plan_has_a_small_level() -> None:
    values = np.random.default_rng(1).normal(1.0, 0.8, 12)
    history = History(PoolPlan(12))
    early = judge_family({"a": finding(values[:5])}, history)["a"].finding.estimate
    assert early.p is not None
    assert early.p_adjusted is not None
    assert early.p < 0.05 < early.p_adjusted
    assert early.verdict == INCONCLUSIVE
    whole = judge_family({"a": finding(values)}, history)["a"].finding.estimate
    assert whole.p_adjusted == whole.p
    after = judge_family({"a": finding(values)}, History(PoolPlan(12), looks("a", values, 5, 8)))["a"]
    assert after.finding.estimate.p_adjusted is not None
    assert whole.p is not None
    assert whole.p < after.finding.estimate.p_adjusted < 1.5 * whole.p
    assert [look.pools for look in after.earlier] == [5, 8]


def test_without_a_plan_the_pools_of_the_first_run_are_planned() -> None:
    values = np.random.default_rng(2).normal(1.0, 0.8, 12)
    plan = PoolPlan(None, {"people": 8}, KEPT)
    first = judge_family({"a": finding(values[:8])}, History(plan))["a"].finding.estimate
    assert first.p is not None
    assert first.p_adjusted == pytest.approx(first.p / (1 - KEPT))
    later = judge_family({"a": finding(values)}, History(plan, looks("a", values, 8)))["a"].finding.estimate
    assert later.p is not None
    assert later.p_adjusted is not None
    assert first.p_adjusted is not None
    # What was found with the pools of the first run stands, as the present p agrees.
    assert later.p_adjusted == pytest.approx(max(later.p, first.p_adjusted))
    noise = np.random.default_rng(9).normal(0, 1, 8)
    weak = np.concatenate([noise - noise.mean() + 0.1, values[8:]])
    found = judge_family({"a": finding(weak)}, History(plan, looks("a", weak, 8)))["a"].finding.estimate
    assert found.p is not None
    assert found.p_adjusted is not None
    assert found.p_adjusted > 5 * found.p, "later looks have a tenth of the error"


def test_a_look_at_the_same_pools_is_no_earlier_look() -> None:
    values = np.random.default_rng(3).normal(1.5, 1, 8)
    history = History(PoolPlan(None, {}, KEPT), looks("a", values, 8))
    judged = judge_family({"a": finding(values)}, history)["a"]
    assert judged.earlier == ()
    assert judged.finding.estimate == judge_family({"a": finding(values)}, History(history.plan))["a"].finding.estimate
    # Other values of the same pools are another look, but no new information.
    changed = judge_family({"a": finding(values + 0.01)}, history)["a"]
    assert len(changed.earlier) == 1
    assert changed.finding.estimate.p is not None
    assert changed.finding.estimate.p_adjusted == pytest.approx(changed.finding.estimate.p / (1 - KEPT))


def test_an_equivalence_found_early_stands() -> None:
    values = np.random.default_rng(4).normal(0.0, 0.2, 12)
    history = History(PoolPlan(8), looks("a", values, 8))
    assert judge_family({"a": finding(values)}, history)["a"].finding.estimate.verdict == EQUIVALENT
    assert judge_family({"a": finding(values)}, history)["a"].simultaneous == (-math.inf, math.inf)


def test_the_advice_of_an_exhausted_plan_is_another_run() -> None:
    values = np.array([1.0, -0.5, 1.5, -0.2, 0.9, 0.1])
    stated = judge_family({"a": finding(values)}, History(PoolPlan(6)))["a"].needs
    assert stated is not None
    assert stated.is_new_run
    open_end = judge_family({"a": finding(values)}, History(PoolPlan(None, {"people": 6}, KEPT)))["a"].needs
    assert open_end is not None
    assert not open_end.is_new_run
    early = judge_family({"a": finding(values)}, History(PoolPlan(60)))["a"].needs
    assert early is not None
    assert not early.is_new_run
    assert early.pools < 54


def test_information_is_the_inverse_variance_of_the_mean_over_populations() -> None:
    plan = PoolPlan(9)
    assert plan.share({"a": 5}, {}) == pytest.approx(0.5)
    assert plan.share({"a": 9, "b": 9}, {}) == pytest.approx(1.0)
    assert plan.share({"a": 9, "b": 5}, {}) == pytest.approx((2 / 8) / (1 / 8 + 1 / 4))
    implied = PoolPlan(None, {"a": 4}, KEPT)
    assert implied.share({"a": 4, "b": 3}, {"b": 3}) == pytest.approx(1.0)
