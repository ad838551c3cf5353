"""Number of pools for a given power of the t-test and of the equivalence test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, gammainc, gammaincinv, nctdtr, ndtr, stdtrit

from analysis.inference.estimate import DIFFERENT, EQUIVALENT, LEVEL

NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)
"""Quadrature on [-1, 1]; with 48 nodes the power of equivalence is exact to 1e-5 (tests compare with simulation)."""
CHANCE = 0.8
MOST_POOLS = 10_000
_ALPHA = 1 - LEVEL
_CERTAIN = 30.0
"""Standard errors by which the noncentral t exceeds its critical value when the power is 1 to rounding."""

Levels = Callable[[int], tuple[float, float]]
"""The levels of the two-sided t-test and of the equivalence test with this number of pools."""


@dataclass(frozen=True)
class Needs:
    """The fewest pools with which a claim is decided with a power of 80%, if effect and spread are as estimated.

    `verdict` is the decision that takes fewer pools, `different` or `equivalent`. `low` and `high` are the same for the
    ends of the 95% interval of the spread (chi-square); `high` is None beyond 10,000. The numbers count pools to add,
    or all pools of another run if `is_new_run`.
    """

    pools: int
    low: int
    high: int | None
    verdict: str
    is_new_run: bool = False


@dataclass(frozen=True)
class Effect:
    """An estimated effect, its standard deviation between pools with `df`, the margin, and the populations of pools."""

    estimate: float
    deviation: float
    df: float
    margin: float | None
    populations: int = 1

    def spread_ends(self) -> tuple[float, float]:
        """The ends of the 95% interval of the standard deviation, by chi-square."""
        low, high = (math.sqrt(self.df / float(chdtri(self.df, tail))) for tail in (_ALPHA / 2, 1 - _ALPHA / 2))
        return self.deviation * low, self.deviation * high


def pools_needed(effect: Effect, levels: Levels, present: int, last: int = MOST_POOLS) -> Needs | None:
    """The pools to add to those present, at most to `last`; None if these do not suffice.

    Equal numbers are added to every population.
    """
    first = max(present, effect.populations) + effect.populations
    low, high = effect.spread_ends()
    found, few, many = (_fewest_for_verdict(effect, one, levels, first, last) for one in (effect.deviation, low, high))
    if found is None:
        return None
    total, verdict = found
    return Needs(total - present, (few[0] if few else total) - present, many[0] - present if many else None, verdict)


def _fewest_for_verdict(
    effect: Effect, deviation: float, levels: Levels, first: int, last: int
) -> tuple[int, str] | None:
    """The fewest pools that decide, and as what; the first number has one step more in every population."""
    ratio = abs(effect.estimate) / deviation
    reach = 0.0 if effect.margin is None else effect.margin / deviation
    step = effect.populations

    def differs(pools: int) -> float:
        return _power_to_differ(ratio, pools, levels(pools)[0], pools - float(step))

    def is_equivalent(pools: int) -> float:
        return _power_to_be_equivalent(reach, pools, levels(pools)[1], ratio, pools - float(step))

    powers = ((differs, DIFFERENT), (is_equivalent, EQUIVALENT))
    found = [(_fewest_between(power, first, last, step), name) for power, name in powers]
    known = [(pools, name) for pools, name in found if pools is not None]
    return min(known, default=None)


def _fewest_between(power_of: Callable[[int], float], first: int, last: int, step: int) -> int | None:
    """The fewest pools from first to last in steps with a power of CHANCE, by doubling and bisection."""
    most = (last - first) // step
    if most < 0:
        return None
    low = -1
    high = 0
    while power_of(first + step * high) < CHANCE:
        if high == most:
            return None
        low = high
        high = min(2 * high + 1, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(first + step * middle) >= CHANCE else (middle, high)
    return first + step * high


def pools_wanted(deviation: float, effect: float, chance: float = CHANCE) -> int:
    """The fewest pools that detect a true difference of `effect` at .05 with probability `chance`, at least 2."""
    return _fewest(_power_to_differ, deviation, effect, chance)


def pools_for_equivalence(deviation: float, margin: float, chance: float = CHANCE) -> int:
    """The fewest pools that find methods without a difference equivalent with probability `chance`, at least 2."""
    return _fewest(_power_to_be_equivalent, deviation, margin, chance)


def _fewest(power_of: Callable[[float, int], float], deviation: float, effect: float, chance: float) -> int:
    """The fewest pools, at least 2, with this power, by doubling and bisection."""
    if deviation == 0:
        return 2
    low = 1
    high = 2
    while power_of(effect / deviation, high) < chance:
        low = high
        high = 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(effect / deviation, middle) >= chance else (middle, high)
    return high


def _power_to_differ(ratio: float, pools: int, level: float = _ALPHA, df: float | None = None) -> float:
    """Power of the two-sided t-test over pools for an effect of `ratio` standard deviations; df is pools - 1."""
    if level <= 0:
        return 0.0
    df = pools - 1.0 if df is None else df
    shift = ratio * math.sqrt(pools)
    critical = -float(stdtrit(df, level / 2))
    if shift - critical > _CERTAIN:
        return 1.0
    other_side = float(nctdtr(df, shift, -critical))  # NaN where it is too small for scipy to compute
    return float(1 - nctdtr(df, shift, critical)) + (0.0 if math.isnan(other_side) else other_side)


def _power_to_be_equivalent(
    ratio: float, pools: int, level: float = _ALPHA, effect: float = 0.0, df: float | None = None
) -> float:
    """Power of both one-sided tests with a margin of `ratio` standard deviations for an effect of `effect` of them.

    The mean is independent of the estimated deviation s (1 = the true one), which is integrated over: given s, the mean
    must lie within ratio - t s / sqrt(pools) of 0.
    """
    if level <= 0 or ratio <= 0:
        return 0.0
    df = pools - 1.0 if df is None else df
    reach = ratio * math.sqrt(pools)
    shift = effect * math.sqrt(pools)
    critical = -float(stdtrit(df, level))
    top = float(gammainc(df / 2, df / 2 * (reach / critical) ** 2))
    shares = top * (NODES + 1) / 2
    half = reach - critical * np.sqrt(2 / df * gammaincinv(df / 2, shares))
    return top / 2 * float(WEIGHTS @ (ndtr(half - shift) - ndtr(-half - shift)))
