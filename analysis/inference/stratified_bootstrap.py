"""Stratified bootstrap over pools, for quantities that have no standard error of their own.

Pools are drawn with replacement within each population (Agarwal et al. 2021). The plain percentile interval is too
narrow for few pools; its percentiles are moved outwards as far as Student's t exceeds the bootstrap's normal spread for
a mean (the expanded percentile interval of Hesterberg 2015).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from analysis.inference.estimate import LEVEL, ROUNDING, Estimate

Array = NDArray[np.float64]
_UNKNOWN = (-math.inf, math.inf)

DRAWS = 2000
FEW = 6
"""Pools below which the interval is too narrow even so: it covers .75 with 3 pools, .88 with 4 and .92 with 5."""


def drawn_pools(strata: NDArray[np.object_], draws: int, seed: int) -> NDArray[np.intp]:
    """Positions of pools drawn with replacement within each stratum, (draws, pools), strata in sorted order."""
    random = np.random.default_rng(seed)
    parts = []
    for name in sorted(set(strata)):
        own = np.flatnonzero(strata == name)
        parts.append(own[random.integers(0, len(own), (draws, len(own)))])
    return np.concatenate(parts, axis=1)


def tail(strata: NDArray[np.object_]) -> float:
    """The share of draws below the interval: 2.5% for many pools, fewer for few."""
    n = len(strata)
    df = n - len(set(strata))
    return float(ndtr(math.sqrt(n / df) * stdtrit(df, (1 - LEVEL) / 2)))


def cell_mean(values: Array, strata: NDArray[np.object_]) -> Array:
    """The mean over pools in each stratum, then over strata; pools are the last but one axis, in sorted strata."""
    names = sorted(set(strata))
    means = [values[..., np.sort(strata) == name, :].mean(axis=-2) for name in names]
    return np.asarray(np.mean(means, axis=0))


@dataclass(frozen=True)
class Quantities:
    """What a bootstrap estimates: an estimand per quantity, warnings, and the `bounds` of shares."""

    estimands: Sequence[str]
    warnings: Sequence[str] = ()
    bounds: tuple[float, float] | None = None


def bootstrap(
    values: Array,
    strata: NDArray[np.object_],
    statistic: Callable[[Array, NDArray[np.object_]], Array],
    about: Quantities,
    seed: int = 0,
) -> list[Estimate]:
    """One estimate per quantity of `statistic`, with its interval over new pools of the same populations.

    `values` is (pools, ...); `statistic` maps (..., pools, ...) with the strata, sorted, to (..., quantities). A share
    that all pools agree on, at one of its bounds, has the exact one-sided limit in place of an interval without width.
    A stratum with one pool has an infinite interval, with a warning.
    """
    order = np.argsort(strata, kind="stable")
    values = values[order]
    strata = strata[order]
    n = len(strata)
    if not n:
        empty = (*about.warnings, "no pool: nothing to estimate")
        return [_estimate(name, math.nan, 0, math.nan, _UNKNOWN, empty) for name in about.estimands]
    estimates = statistic(values, strata)
    if min((strata == name).sum() for name in set(strata)) < 2:
        alone = (*about.warnings, "one pool: no interval can be given")
        pairs = zip(about.estimands, estimates, strict=True)
        return [_estimate(name, one, n, math.nan, _UNKNOWN, alone) for name, one in pairs]
    few = [f"{n} pools: a bootstrap interval of fewer than {FEW} is too narrow"] if n < FEW else []
    found = statistic(values[drawn_pools(strata, DRAWS, seed)], strata)
    share = tail(strata)
    low, high = np.quantile(found, [share, 1 - share], axis=0)
    each = zip(about.estimands, estimates, found.std(axis=0, ddof=1), low, high, strict=True)
    return [
        _estimate(name, one, n, spread, _ends(one, a, b, n, about.bounds), (*about.warnings, *few))
        for name, one, spread, a, b in each
    ]


def _ends(estimate: float, low: float, high: float, n: int, bounds: tuple[float, float] | None) -> tuple[float, float]:
    """The interval; the exact limit of n of n pools (Clopper and Pearson 1934) where every draw is at a bound."""
    if bounds is None or high - low > ROUNDING:
        return min(low, estimate), max(high, estimate)
    width = (1 - ((1 - LEVEL) / 2) ** (1 / n)) * (bounds[1] - bounds[0])
    if estimate <= bounds[0]:
        return bounds[0], bounds[0] + width
    return (bounds[1] - width, bounds[1]) if estimate >= bounds[1] else (estimate, estimate)


def _estimate(
    estimand: str, value: float, n: int, se: float, ends: tuple[float, float], warnings: Sequence[str]
) -> Estimate:
    """An estimate without p and degrees of freedom."""
    low, high = (float(end) for end in ends)
    return Estimate(
        estimand, "pool", n, float(value), float(se), math.nan, low, high, None, None, None, "", tuple(warnings)
    )
