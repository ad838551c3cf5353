"""Number of pools for a given power of the t-test and of the equivalence test."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import gammainc, gammaincinv, nctdtr, ndtr, stdtrit

from analysis.inference.estimate import LEVEL

NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)
"""Quadrature on [-1, 1]; with 48 nodes the power of equivalence is exact to 1e-5 (tests compare with simulation)."""


def pools_wanted(deviation: float, effect: float, chance: float = 0.8) -> int:
    """The fewest pools that detect a true difference of `effect` at .05 with probability `chance`, at least 2."""
    return _fewest(_power_to_differ, deviation, effect, chance)


def pools_for_equivalence(deviation: float, margin: float, chance: float = 0.8) -> int:
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


def _power_to_differ(ratio: float, pools: int) -> float:
    """Power of the two-sided t-test over pools at .05 for an effect of `ratio` standard deviations."""
    df = pools - 1.0
    shift = ratio * math.sqrt(pools)
    critical = float(stdtrit(df, (1 + LEVEL) / 2))
    return float(1 - nctdtr(df, shift, critical) + nctdtr(df, shift, -critical))


def _power_to_be_equivalent(ratio: float, pools: int) -> float:
    """Power of both one-sided tests at .05 with a margin of `ratio` standard deviations, without a difference.

    The mean is independent of the estimated deviation s (1 = the true one), which is integrated over: given s, the mean
    must lie within ratio - t s / sqrt(pools) of 0.
    """
    df = pools - 1.0
    reach = ratio * math.sqrt(pools)
    critical = float(stdtrit(df, LEVEL))
    top = float(gammainc(df / 2, df / 2 * (reach / critical) ** 2))
    shares = top * (NODES + 1) / 2
    inside = 2 * ndtr(reach - critical * np.sqrt(2 / df * gammaincinv(df / 2, shares))) - 1
    return top / 2 * float(WEIGHTS @ inside)
