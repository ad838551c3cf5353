"""How often claims are wrongly decided while pools are added, and how often the advised pools decide them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import stdtr, stdtrit

from analysis.inference.power import Effect, Levels, Needs, pools_needed
from analysis.inference.sequential import KEPT, Stage, nominal_level

pytestmark = pytest.mark.slow
TIMES = 20_000
MOST = 0.055
POOLS = range(5, 21)
MODES = [("all 20 planned", 20, 0.0), ("12 planned", 12, 0.0), ("5 in the first run", 5, KEPT), ("8 in it", 8, KEPT)]


@pytest.fixture(scope="module")
def studies() -> tuple[np.ndarray, np.ndarray]:
    return growing()


def growing() -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors of the first 5 to 20 standard normal values, (TIMES, looks)."""
    values = np.random.default_rng(18).normal(0, 1, (TIMES, POOLS[-1]))
    means = np.stack([values[:, :n].mean(axis=1) for n in POOLS], axis=1)
    errors = np.stack([values[:, :n].std(axis=1, ddof=1) / math.sqrt(n) for n in POOLS], axis=1)
    return means, errors


def stages(plan: int, pools: Sequence[int]) -> list[Stage]:
    return [Stage((n - 1) / (plan - 1), n, n - 1.0) for n in pools]


def levels(plan: int, kept: float, sides: int) -> np.ndarray:
    """The level at each look, if there is one after every pool."""
    looks = stages(plan, POOLS)
    return np.array([nominal_level(0.05, looks[: n + 1], kept, sides) for n in range(len(looks))])


@pytest.mark.parametrize(("mode", "plan", "kept"), MODES, ids=[mode for mode, *_ in MODES])
class TestEveryLookIsTaken:
    def test_no_difference_is_hardly_ever_found(
        self, studies: tuple[np.ndarray, np.ndarray], mode: str, plan: int, kept: float
    ) -> None:
        means, errors = studies
        p = 2 * stdtr(np.array(POOLS) - 1, -np.abs(means / errors))
        assert (p <= 0.05).any(axis=1).mean() > 0.15, "without correction"
        assert (p <= levels(plan, kept, 2)).any(axis=1).mean() <= MOST

    def test_an_effect_of_the_margin_is_hardly_ever_equivalent(
        self, studies: tuple[np.ndarray, np.ndarray], mode: str, plan: int, kept: float
    ) -> None:
        means, errors = studies
        margin = 2.0
        p = stdtr(np.array(POOLS) - 1, (np.abs(margin + means) - margin) / errors)
        assert (p <= 0.05).any(axis=1).mean() > 0.1, "without correction"
        assert (p <= levels(plan, kept, 1)).any(axis=1).mean() <= MOST

    def test_looks_chosen_by_the_data_are_no_worse(
        self, studies: tuple[np.ndarray, np.ndarray], mode: str, plan: int, kept: float
    ) -> None:
        """After the first look one more pool if p is small, else as many as there are: as the advice would have it."""
        means, errors = studies
        p = 2 * stdtr(np.array(POOLS) - 1, -np.abs(means / errors))
        near = (p[:, 0] < 0.1).astype(int)
        found = p[:, 0] <= nominal_level(0.05, stages(plan, [5]), kept)
        ends = sorted({8, plan, 20} - {5})
        for small, looks in ((1, (5, 6, *ends)), (0, (5, *ends[-2:]))):
            for n in range(1, len(looks)):
                level = nominal_level(0.05, stages(plan, looks[: n + 1]), kept)
                found |= (near == small) & (p[:, looks[n] - POOLS[0]] <= level)
        assert found.mean() <= MOST


def test_beyond_the_first_run_effects_are_still_found(studies: tuple[np.ndarray, np.ndarray]) -> None:
    means, errors = studies
    p = 2 * stdtr(np.array(POOLS) - 1, -np.abs((1.2 + means) / errors))
    found = np.cumsum(p <= levels(5, KEPT, 2), axis=1) > 0
    assert found[:, 0].mean() < 0.6
    assert found[:, -1].mean() > 0.8


def decided(effect: Effect, pools: int, level_of: Levels) -> float:
    """The share of studies with this number of pools that a test of a difference or of equivalence decides."""
    values = np.random.default_rng(pools).normal(effect.estimate, effect.deviation, (TIMES, pools))
    mean = values.mean(axis=1)
    error = values.std(axis=1, ddof=1) / math.sqrt(pools)
    differ, equivalent = level_of(pools)
    found = np.abs(mean) > -stdtrit(pools - 1, differ / 2) * error
    assert effect.margin is not None
    return float((found | (np.abs(mean) - effect.margin < stdtrit(pools - 1, equivalent) * error)).mean())


ADVISED = [
    # The estimate -1.93 with the spread of six pools 1.0 took "29 more pools" where few suffice.
    (Effect(-1.93, 1.19, 5, 0.5), 6, 0.05 / 8, None, "different"),
    (Effect(0.05, 0.6, 7, 0.5), 8, 0.05 / 4, None, "equivalent"),
    (Effect(0.8, 1.0, 7, 0.5), 8, 0.05, 16, "different"),
    (Effect(0.9, 1.0, 7, 0.5), 8, 0.05, None, "different"),
]


@pytest.mark.parametrize(("effect", "present", "alpha", "plan", "verdict"), ADVISED)
def test_the_advised_pools_decide_with_the_promised_power(
    effect: Effect, present: int, alpha: float, plan: int | None, verdict: str
) -> None:
    def level_of(pools: int) -> tuple[float, float]:
        looks = stages(plan or present, (present, pools))
        kept = 0.0 if plan else KEPT
        return nominal_level(alpha, looks, kept), nominal_level(alpha, looks, kept, 1)

    needs = pools_needed(effect, level_of, present, plan or 10_000)
    assert isinstance(needs, Needs)
    assert needs.verdict == verdict
    assert needs.low <= needs.pools
    assert needs.high is None or needs.high > needs.pools
    assert 0.79 <= decided(effect, present + needs.pools, level_of) <= 0.95
    if needs.pools > 1:
        assert decided(effect, present + needs.pools - 1, level_of) < 0.81


def test_the_interval_of_the_advice_is_that_of_the_spread() -> None:
    """The advice for the true spread lies inside in 95% of studies, whose spreads follow chi-square."""
    random = np.random.default_rng(3)
    alpha = 0.05 / 8
    effect = 1.5
    truth = pools_needed(Effect(effect, 1.0, 7, None), lambda _: (alpha, alpha), 0)
    assert truth is not None
    inside = []
    for deviation in np.sqrt(random.chisquare(7, 300) / 7):
        found = pools_needed(Effect(effect, deviation, 7, None), lambda _: (alpha, alpha), 0)
        assert found is not None
        inside.append(found.low <= truth.pools and (found.high is None or truth.pools <= found.high))
    assert np.mean(inside) >= 0.93


def test_a_plan_that_is_too_small_gives_no_advice() -> None:
    assert pools_needed(Effect(0.2, 1.0, 7, None), lambda _: (0.05, 0.05), 8, 12) is None
    assert pools_needed(Effect(0.0, 1.0, 7, None), lambda _: (0.05, 0.05), 8) is None
