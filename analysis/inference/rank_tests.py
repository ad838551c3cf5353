"""Friedman's test of methods over blocks, with the post-hoc tests of Nemenyi and of Conover (Demsar 2006).

Blocks (pools, or cells) are rows, methods are columns; the best method of a block has rank 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtr
from scipy.stats import rankdata, studentized_range

from analysis.inference.estimate import LEVEL
from analysis.inference.verdict import adjust_p_values

Array = NDArray[np.float64]


def block_ranks(scores: Array) -> Array:
    """The rank of each method within its block, (blocks, methods): 1 is the highest score, ties share mean ranks."""
    return np.asarray(rankdata(-scores, axis=1), dtype=np.float64)


@dataclass(frozen=True)
class RankTest:
    """Friedman's test: `chi2` corrected for ties, Iman and Davenport's `f` with its `p`.

    `nemenyi` and `conover` are the p values of all pairs, (methods, methods), both corrected for their number
    (Conover's by Holm). NaN with one block or no differences.
    """

    chi2: float
    f: float
    p: float
    nemenyi: Array
    conover: Array


def rank_test(ranks: Array) -> RankTest:
    """Friedman's test and all pairs, from the ranks of two or more methods within blocks."""
    n, k = ranks.shape
    sums = ranks.sum(axis=0)
    variation = float((ranks**2).sum() - n * k * (k + 1) ** 2 / 4)
    unknown = np.full((k, k), math.nan)
    if n < 2 or variation <= 0:
        return RankTest(math.nan, math.nan, math.nan, unknown, unknown)
    chi2 = (k - 1) * float(((sums - n * (k + 1) / 2) ** 2).sum()) / variation
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 else math.inf
    p = float(fdtrc(k - 1, (k - 1) * (n - 1), f)) if math.isfinite(f) else 0.0
    gaps = np.abs(sums[:, None] - sums[None, :])
    return RankTest(chi2, f, p, _nemenyi(gaps / n, n, k), _conover(gaps, variation * max(rest, 0.0), n, k))


def critical_difference(blocks: int, methods: int) -> float:
    """The difference of average ranks from which two of several methods differ at .05 (Nemenyi)."""
    return float(studentized_range.ppf(LEVEL, methods, np.inf)) / math.sqrt(2) * _error(blocks, methods)


def _error(blocks: int, methods: int) -> float:
    """The standard error of a difference of average ranks without ties."""
    return math.sqrt(methods * (methods + 1) / (6 * blocks))


def _nemenyi(gaps: Array, n: int, k: int) -> Array:
    """p of the studentised range for each difference of average ranks."""
    known, place = np.unique(np.round(gaps, 12), return_inverse=True)
    p = studentized_range.sf(known / _error(n, k) * math.sqrt(2), k, np.inf)
    return np.asarray(np.minimum(p, 1.0)[place].reshape(k, k))


def _conover(gaps: Array, unexplained: float, n: int, k: int) -> Array:
    """p of Student's t for each difference of rank sums, corrected by Holm over all pairs."""
    df = (n - 1) * (k - 1)
    error = math.sqrt(2 * unexplained / ((k - 1) * df))
    first, second = np.triu_indices(k, 1)
    gap = gaps[first, second]
    p = 2 * stdtr(df, -gap / error) if error > 0 else np.where(gap > 0, 0.0, 1.0)
    found = np.ones((k, k))
    found[first, second] = adjust_p_values(p, "holm")
    return np.asarray(np.minimum(found, found.T))


def indistinguishable(average: Array, difference: float) -> list[tuple[int, int]]:
    """The longest runs of methods whose average ranks differ by less than `difference`, as first and last position.

    `average` is sorted; runs of one method, and those inside another run, are left out.
    """
    last = np.searchsorted(average, average + difference - 1e-12, side="left") - 1
    runs = [(first, int(end)) for first, end in enumerate(last) if end > first]
    return [(first, end) for index, (first, end) in enumerate(runs) if index == 0 or end > runs[index - 1][1]]
