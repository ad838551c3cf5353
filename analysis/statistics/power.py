"""How many pools a comparison needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from scipy.special import chdtri, gammainc, gammaincinv, nctdtr, ndtr, stdtrit

from analysis.errors import AnalysisError
from analysis.estimate import LEVEL, Estimate, spread
from analysis.pairing import compared, differences, grouped

NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)
"""Quadrature on [-1, 1]; 48 nodes hold the power of equivalence to 1e-5 (tests compare with simulation)."""


def power(  # noqa: PLR0913 - each is a setting of its own
    candidates: pd.DataFrame,
    a: str = "uniform_soup",
    b: str = "logit_average",
    *,
    metric: str = "accuracy",
    effect: float = 0.005,
    power: float = 0.8,
    by: Sequence[str] = ("population", "n_members"),
) -> pd.DataFrame:
    """Standard deviation between pools of the paired difference of `a` and `b`, and the pools that it asks for.

    The interval is chi-square's, in the unit of the metric, as is `effect`, the smallest difference of interest.
    `pools_needed`: the fewest pools at which a true difference of `effect` is found at .05 with the chance `power`
    (two-sided t over pools); `pools_for_equivalence`: at which methods without a difference are found `equivalent`
    with the margin `effect`. Both take the estimate for the truth and are missing with one pool. Plan with them for
    new pools before a run: adding pools until p is small finds differences that are not there.
    Pairs are those of `paired_difference`, which see for what is left out and for errors.
    """
    if not effect > 0:
        raise AnalysisError("effect", f"{effect} is not above 0", "the smallest difference that matters")
    if not 0.05 < power < 1:
        raise AnalysisError("power", f"{power} is not between 0.05 and 1", "0.8 is usual")
    pairs = differences(compared(candidates, a, b, metric, by), a, b, metric, by)
    estimand = f"standard deviation between pools of {metric}: {a} minus {b}"
    found = []
    for group in grouped(pairs, by):
        one = _deviation(group.values, estimand, group.told)
        deviation = one.estimate
        needed = {
            "pools_needed": None if math.isnan(deviation) else pools_wanted(deviation, effect, power),
            "pools_for_equivalence": None if math.isnan(deviation) else pools_for_equivalence(deviation, effect, power),
        }
        found.append({**group.key, "effect": effect, **needed, **asdict(one)})
    return pd.DataFrame(found).astype({"pools_needed": "Int64", "pools_for_equivalence": "Int64"})


def _deviation(values: np.ndarray, estimand: str, told: Sequence[str]) -> Estimate:
    """The standard deviation of one value per pool with chi-square's interval; infinite with fewer than two pools."""
    n, df = len(values), len(values) - 1.0
    if n < 2:
        what = "one pool: no spread to measure" if n else "no pool: nothing to estimate"
        about = (math.nan, math.nan, 0.0, -math.inf, math.inf)
        return Estimate(estimand, "pool", n, *about, None, None, None, "", (*told, what))
    deviation = spread(values)
    if deviation == 0:
        told = (*told, "no spread between pools: the interval has no width")
    low, high = (deviation * math.sqrt(df / float(chdtri(df, tail))) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    about = (deviation, deviation / math.sqrt(2 * df), df, low, high)
    return Estimate(estimand, "pool", n, *about, None, None, None, "", tuple(told))


def pools_wanted(deviation: float, effect: float, chance: float = 0.8) -> int:
    """The fewest pools at which a true difference of `effect` is found at .05 with this chance, at least 2."""
    return _fewest(_power_to_differ, deviation, effect, chance)


def pools_for_equivalence(deviation: float, margin: float, chance: float = 0.8) -> int:
    """The fewest pools at which methods without a difference are found equivalent with this chance, at least 2."""
    return _fewest(_power_to_be_equivalent, deviation, margin, chance)


def _fewest(power_of: Callable[[float, int], float], deviation: float, effect: float, chance: float) -> int:
    """The fewest pools, at least 2, that have the chance; by doubling, then halving."""
    if deviation == 0:
        return 2
    low, high = 1, 2
    while power_of(effect / deviation, high) < chance:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(effect / deviation, middle) >= chance else (middle, high)
    return high


def _power_to_differ(ratio: float, pools: int) -> float:
    """The chance that a two-sided t over pools is below .05 where the effect is `ratio` deviations."""
    df, shift = pools - 1.0, ratio * math.sqrt(pools)
    critical = float(stdtrit(df, (1 + LEVEL) / 2))
    return float(1 - nctdtr(df, shift, critical) + nctdtr(df, shift, -critical))


def _power_to_be_equivalent(ratio: float, pools: int) -> float:
    """The chance that both one-sided tests at .05 find no difference within a margin of `ratio` deviations.

    The mean is independent of the deviation found, s (1 = the true one), over whose distribution is integrated: given
    s, the mean must fall within ratio - t s / sqrt(pools) of 0.
    """
    df, reach = pools - 1.0, ratio * math.sqrt(pools)
    critical = float(stdtrit(df, LEVEL))
    top = float(gammainc(df / 2, df / 2 * (reach / critical) ** 2))
    shares = top * (NODES + 1) / 2
    inside = 2 * ndtr(reach - critical * np.sqrt(2 / df * gammaincinv(df / 2, shares))) - 1
    return top / 2 * float(WEIGHTS @ inside)
