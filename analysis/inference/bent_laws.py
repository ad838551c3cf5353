"""Coefficients of a law with a third coefficient c in its basis: one c for all pools, its interval by test inversion.

Fits of single pools are biased as soon as c is poorly determined: with 12 pools their t intervals of a and b cover 24
to 96% of true values. Here every pool has its own a and b.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.inference.estimate import LEVEL
from analysis.inference.laws import Law, fit

_GRID = 513
"""Number of values of c that are tested, evenly spaced in log(c + offset): 1% of c + offset apart."""

_STEP = 1e-4
"""Step in log(c + offset) of numerical derivatives."""

Interval = tuple[float, float, float]


@dataclass(frozen=True)
class BentFit:
    """Estimate, low and high of each coefficient, or none if c is not determined; the number of pools that have all
    sizes.
    """

    pools: int
    coefficients: dict[str, Interval] | None


def fit_bent(law: Law, sizes: np.ndarray, values: np.ndarray) -> BentFit:
    """Coefficients of a law with c, with 95% intervals, from values (pools, sizes).

    Pools that lack a size are left out.
    The interval of c holds every c that Student's t over pools does not reject: the tested value is the part of a
    pool's curve along the derivative of the basis by c, orthogonal to what a and b explain. If it reaches an end of
    the law's range, c is not determined, nor are a and b. The intervals of a and b join (root of the sum of squares,
    for each end) Student's interval at the estimated c with the range of a and b over the interval of c.
    """
    whole = values[np.isfinite(values).all(axis=1)]
    pools = len(whole)
    if law.bounds is None or pools < 2 or len(sizes) < len(law.coefficients):
        return BentFit(pools, None)
    low, high = np.log(np.array(law.bounds) + law.offset)
    middle = np.log(fit(law, sizes, whole.mean(axis=0)[None]).c[0] + law.offset)
    tried = np.union1d(np.linspace(low, high, _GRID), middle)
    best = int(np.searchsorted(tried, middle))
    basis = _centred_basis(law, sizes, tried)
    statistic = _statistic(law, sizes, tried, basis, whole)
    kept = np.flatnonzero(statistic <= stdtrit(pools - 1, 0.5 + LEVEL / 2))
    kept = np.union1d(kept, [best])
    if kept[0] == 0 or kept[-1] == len(tried) - 1:
        return BentFit(pools, None)
    c = np.exp(tried) - law.offset
    b = -whole @ (basis / (basis**2).sum(axis=1, keepdims=True)).T
    a = whole.mean(axis=1)[:, None] + b * law.basis(sizes, c[:, None]).mean(axis=1)
    found = {"a": _joined(a, best, kept), "b": _joined(b, best, kept)}
    return BentFit(pools, {**found, "c": (float(c[best]), float(c[kept[0] - 1]), float(c[kept[-1] + 1]))})


def _centred_basis(law: Law, sizes: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """The basis at every tried log(c + offset), minus its mean over sizes: (tried, sizes)."""
    basis = law.basis(sizes, np.exp(tried)[:, None] - law.offset)
    centred: np.ndarray = basis - basis.mean(axis=1, keepdims=True)
    return centred


def _statistic(law: Law, sizes: np.ndarray, tried: np.ndarray, basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The absolute t over pools, at every tried c, of the curves' part along the derivative of the basis by c."""
    slope = _centred_basis(law, sizes, tried + _STEP) - _centred_basis(law, sizes, tried - _STEP)
    share = (slope * basis).sum(axis=1, keepdims=True) / (basis**2).sum(axis=1, keepdims=True)
    along = values @ (slope - share * basis).T
    error = along.std(axis=0, ddof=1) / np.sqrt(len(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(error > 0, np.abs(along.mean(axis=0)) / error, np.inf)
    return found


def _joined(values: np.ndarray, best: int, kept: np.ndarray) -> Interval:
    """Mean over pools at the best c; an interval of the error over pools there and of the means at all kept c."""
    means = values.mean(axis=0)
    middle = means[best]
    error = values[:, best].std(ddof=1) / np.sqrt(len(values))
    half = stdtrit(len(values) - 1, 0.5 + LEVEL / 2) * error
    low = middle - np.hypot(half, middle - means[kept].min())
    high = middle + np.hypot(half, means[kept].max() - middle)
    return float(middle), float(low), float(high)
