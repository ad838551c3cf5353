"""Simultaneous intervals of several means over the same pools: max-t with the correlation that the pools show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import stdtr, stdtrit

from analysis.inference.estimate import (
    LEVEL,
    Estimate,
    Question,
    beyond_margin_p,
    equivalence_p,
    unit_mean,
    verdict_of,
)

DRAWS = 10000
"""Number of simulated studies from which the level of one interval is read: its error is 0.2% of coverage."""

_MOST_DF = 40
"""Degrees of freedom that are simulated at most: beyond, only the normal limit is approached."""


def simultaneous_means(
    values: np.ndarray, questions: Sequence[Question], warnings: Sequence[str] = ()
) -> list[Estimate]:
    """The mean of each column over pools, with intervals that hold all means at once in 95% of studies.

    `values` are (pools, columns), NaN if a pool lacks a column. The intervals are Student's, of one level for all: that
    of the largest |t| among as many means of normal values, with the correlation seen in the pools, which 5% of
    simulated studies exceed (single-step max-t; Hothorn, Bretz and Westfall 2008). `p_adjusted` and the verdict are
    corrected in the same way. Columns without spread between pools, or with one pool, are not counted.
    """
    known = np.isfinite(values)
    found = [
        unit_mean(values[mask, column], question, warnings)
        for column, (mask, question) in enumerate(zip(known.T, questions, strict=True))
    ]
    counted = np.array([one.se > 0 and one.df > 0 for one in found], bool)
    if counted.sum() < 2:
        return found
    df = int(min(one.df for one, counts in zip(found, counted, strict=True) if counts))
    largest = _largest(_correlation(values[:, counted]), min(df, _MOST_DF))
    return [_widened(one, largest) if counts else one for one, counts in zip(found, counted, strict=True)]


def simultaneous_level(values: np.ndarray) -> float:
    """The p at which one column's interval is taken so that all hold at once in 95% of studies: values without NaN,
    (pools, columns), as in `simultaneous_means`.
    """
    return _largest(_correlation(values), min(len(values) - 1, _MOST_DF)).level


def _correlation(values: np.ndarray) -> np.ndarray:
    """Correlation matrix of the columns over pools; unknown values count as their column's mean.

    It is shrunk towards independence by as much as its own error asks for (Schäfer and Strimmer 2005): five pools show
    correlations that are not there, and intervals without this cover 93 to 94%.
    """
    known = np.isfinite(values)
    mean = np.where(known, values, 0).sum(0) / known.sum(0)
    apart = np.where(known, values - mean, 0)
    apart = apart / np.sqrt((apart**2).sum(0))
    found: np.ndarray = apart.T @ apart
    other = ~np.eye(len(found), dtype=bool)
    seen = found[other]
    error = ((1 - seen**2) ** 2).sum() / max(len(values) - 1, 1)
    size = (seen**2).sum()
    found[other] = seen * (1 - min(1.0, error / size)) if size > 0 else 0.0
    return found


@dataclass(frozen=True)
class _Largest:
    """Sorted largest |t| of the columns in each of `DRAWS` studies in which all means are zero, with `df` each."""

    statistic: np.ndarray
    df: int

    @property
    def level(self) -> float:
        """The p of the largest |t| that 5% of studies exceed."""
        return min(float(2 * stdtr(self.df, -self.statistic[round(LEVEL * DRAWS)])), 1 - LEVEL)

    def adjusted(self, p: float | None) -> float | None:
        """The share of studies whose largest |t| has no larger p; never below p itself."""
        if p is None:
            return None
        smaller = int(np.searchsorted(self.statistic, -stdtrit(self.df, p / 2), side="left"))
        return max(p, (1 + DRAWS - smaller) / (1 + DRAWS))


def _largest(correlation: np.ndarray, df: int) -> _Largest:
    """Simulated studies of means with this correlation."""
    size, direction = np.linalg.eigh(correlation)
    root = direction * np.sqrt(np.maximum(size, 0))
    drawn = (root.astype(np.float32) @ _normal(len(correlation), df)).reshape(len(correlation), 1 + df, DRAWS)
    drawn *= drawn
    squared = drawn[:, 0] / drawn[:, 1:].mean(axis=1)
    return _Largest(np.sort(np.sqrt(squared.max(axis=0).astype(np.float64))), df)


@lru_cache(maxsize=16)
def _normal(columns: int, df: int) -> np.ndarray:
    """Normal values of a fixed seed, (columns, (1 + df) draws): one for the mean, `df` for the spread around it."""
    found = np.random.default_rng(0).standard_normal((columns, (1 + df) * DRAWS), dtype=np.float32)
    found.setflags(write=False)
    return found


def _widened(one: Estimate, largest: _Largest) -> Estimate:
    """The estimate with simultaneous interval, p and verdict."""
    half = float(stdtrit(one.df, 1 - largest.level / 2)) * one.se
    found = replace(one, low=one.estimate - half, high=one.estimate + half)
    p = largest.adjusted(one.p)
    if p is None:
        return found
    inside = None
    beyond = None
    if one.margin is not None:
        inside = _one_sided(equivalence_p(one.estimate, one.se, one.df, one.margin), largest)
        beyond = largest.adjusted(beyond_margin_p(one.estimate, one.se, one.df, one.margin))
    return replace(found, p_adjusted=p, verdict=verdict_of(p, inside, beyond))


def _one_sided(p: float | None, largest: _Largest) -> float | None:
    """The one-sided p, corrected as the two-sided one of the same statistic."""
    both = largest.adjusted(None if p is None else min(1.0, 2 * p))
    return None if both is None else both / 2
