"""Sign-flip test and bootstrap-t over pools, and jackknife over the members of one pool.

Own code: scipy's `permutation_test` draws at random beyond few pools, its `bootstrap` does not studentise, and no
library has a jackknife over members of subsets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.inference.estimate import LEVEL, ROUNDING

RESAMPLES = 1999
FEWEST = 6
MOST = 32
"""Pools for an exact sign-flip: with 5 it cannot go below .0625, beyond 32 it takes seconds and t needs no check."""


def sign_flip_p(values: np.ndarray) -> float:
    """Exact two-sided p of the sign-flip test of symmetry around 0; NaN outside 6 to 32 values.

    The sums of each half are enumerated and matched: 2^(n/2) instead of 2^n.
    """
    if not FEWEST <= len(values) <= MOST:
        return math.nan
    middle = len(values) // 2
    left = _signed_sums(values[:middle])
    right = np.sort(_signed_sums(values[middle:]))
    # Sums that differ only by rounding are ties, and ties count.
    reached = abs(values.sum()) - ROUNDING * np.abs(values).sum()
    above = len(right) - np.searchsorted(right, reached - left)
    return min(1.0, int(above.sum()) / float(2 ** (len(values) - 1)))


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """The sums of the values under every choice of signs, shape (2^n,)."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def bootstrap_t(cells: Sequence[np.ndarray], shares: Sequence[float]) -> tuple[float, float]:
    """The 2.5% and 97.5% quantiles of the studentised weighted sum of the cells' means, by resampling their units.

    For the interval (mean - high se, mean - low se) beside Student's (Efron 1979; Hall 1988): with skewed units it
    covers more. NaN if a cell has fewer than 6 units, or no spread. Equal values give equal quantiles in any order.
    """
    if not cells or min(map(len, cells)) < FEWEST:
        return math.nan, math.nan
    generator = np.random.default_rng(0)
    shift = np.zeros(RESAMPLES)
    variance = np.zeros(RESAMPLES)
    for cell, share in zip(cells, shares, strict=True):
        n = len(cell)
        drawn = np.sort(cell)[generator.integers(0, n, (RESAMPLES, n))]
        shift += share * (drawn.mean(axis=1) - cell.mean())
        variance += share**2 * drawn.var(axis=1, ddof=1) / n
    scale = max(float(np.abs(cell).max()) for cell in cells)
    known = np.sqrt(variance) > ROUNDING * scale
    if 2 * known.sum() < RESAMPLES:
        return math.nan, math.nan
    low, high = np.quantile(shift[known] / np.sqrt(variance[known]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def leave_one_member_out(values: np.ndarray, subsets: Sequence[Sequence[str]]) -> tuple[float, int]:
    """Standard error of the mean over subsets of one pool by the jackknife over members, and the number of members.

    Leaving out a member drops the subsets with it; NaN if none is left. V = (M-1)/M sum (t_i - mean t)². A bootstrap of
    members is not possible: a member drawn twice makes a smaller subset.
    """
    members = sorted({member for subset in subsets for member in subset})
    place = {member: index for index, member in enumerate(members)}
    membership = np.zeros((len(subsets), len(members)))
    for row, subset in enumerate(subsets):
        membership[row, [place[member] for member in subset]] = 1
    kept = len(subsets) - membership.sum(axis=0)
    centre = values.mean()
    if (kept == 0).any():
        return math.nan, len(members)
    left = -((values - centre) @ membership) / kept
    se = math.sqrt((len(members) - 1) / len(members) * ((left - left.mean()) ** 2).sum())
    return (se if se > ROUNDING * np.abs(values).max() else 0.0), len(members)
