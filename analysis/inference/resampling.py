"""Uncertainty from flipped signs and from members left out, where Student's t over pools needs a check or a stand-in.

Own code: scipy's `permutation_test` draws at random beyond few pools, and no library leaves members out of subsets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.inference.estimate import ROUNDING

FEWEST, MOST = 6, 32
"""Pools for an exact sign-flip: with 5 it cannot go below .0625, beyond 32 it takes seconds and t needs no check."""


def sign_flip_p(values: np.ndarray) -> float:
    """Two-sided p that values are symmetric around 0, over all flips of their signs; NaN outside 6 to 32 values.

    Exact: each half's sums are listed and matched, 2^(n/2) instead of 2^n.
    """
    if not FEWEST <= len(values) <= MOST:
        return math.nan
    middle = len(values) // 2
    left, right = _signed_sums(values[:middle]), np.sort(_signed_sums(values[middle:]))
    # Sums that differ by rounding alone are ties, and ties count.
    reached = abs(values.sum()) - ROUNDING * np.abs(values).sum()
    above = len(right) - np.searchsorted(right, reached - left)
    return min(1.0, int(above.sum()) / float(2 ** (len(values) - 1)))


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """The sums of the values under every choice of signs, shape (2^n,)."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def leave_one_member_out(values: np.ndarray, subsets: Sequence[Sequence[str]]) -> tuple[float, int]:
    """Standard error of the mean over subsets of one pool by leaving out each member, and the number of members.

    Leaving out a member drops the subsets that hold it; NaN where that leaves none. V = (M-1)/M sum (t_i - mean t)².
    Members with replacement would not do: a member drawn twice is a smaller subset.
    """
    members = sorted({member for subset in subsets for member in subset})
    place = {member: index for index, member in enumerate(members)}
    held = np.zeros((len(subsets), len(members)))
    for row, subset in enumerate(subsets):
        held[row, [place[member] for member in subset]] = 1
    kept, centre = len(subsets) - held.sum(axis=0), values.mean()
    if (kept == 0).any():
        return math.nan, len(members)
    left = -((values - centre) @ held) / kept
    se = math.sqrt((len(members) - 1) / len(members) * ((left - left.mean()) ** 2).sum())
    return (se if se > ROUNDING * np.abs(values).max() else 0.0), len(members)
