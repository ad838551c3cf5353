"""Laws of a quantity as a function of the number N of merged members: fitted per pool, compared by prediction error.

No law is chosen from the data: intervals of a chosen law hold less often than they claim.
Every law is a - b g(N) with a basis g that falls as N grows, so b above 0 means growth. Values are (pools, sizes), NaN
if a pool lacks a size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analysis.inference.estimate import ROUNDING, Estimate, pool_mean

MOST_MEMBERS = 2**20
"""Largest number of members for which laws are evaluated."""

_STEPS = 33
_ROUNDS = 4
"""The search for c evaluates `_STEPS` points, then narrows to the two intervals beside the best, `_ROUNDS` times: to
0.01% of c or finer."""

Basis = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Law:
    """a - b g(N), with a third coefficient c in g if `bounds` give its range; c is searched in log(c + offset)."""

    name: str
    formula: str
    basis: Basis
    bounds: tuple[float, float] | None = None
    offset: float = 0.0

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return ("a", "b", "c") if self.bounds else ("a", "b")


LAWS = {
    law.name: law
    for law in (
        Law("inverse", "a − b/N", lambda n, c: 1 / n + 0 * c),
        Law("root", "a − b/√N", lambda n, c: 1 / np.sqrt(n) + 0 * c),
        Law("log", "a + b log N", lambda n, c: -np.log(n) + 0 * c),
        Law("power", "a − b N^−c", lambda n, c: n**-c, (0.1, 5.0)),
        Law("shifted", "a − b/(N + c)", lambda n, c: 1 / (n + c), (-0.9, 50.0), 1.0),
    )
}
"""By name, simple laws first; `inverse` is the law of averages of independent errors."""


@dataclass(frozen=True)
class Fit:
    """Coefficients of a law, (pools,) each; NaN for pools with fewer sizes than the law has coefficients."""

    law: Law
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def at(self, sizes: np.ndarray) -> np.ndarray:
        """Predicted values at each size, (pools, sizes)."""
        values: np.ndarray = self.a[:, None] - self.b[:, None] * self.law.basis(sizes, self.c[:, None])
        return values

    @property
    def bounded(self) -> int:
        """Number of pools whose c lies at an end of its range, hence is not determined by the curve."""
        if self.law.bounds is None:
            return 0
        low, high = np.log(np.array(self.law.bounds) + self.law.offset)
        place = np.log(self.c[np.isfinite(self.c)] + self.law.offset)
        return int(((place < low + 0.01) | (place > high - 0.01)).sum())


def fit(law: Law, sizes: np.ndarray, values: np.ndarray) -> Fit:
    """Least squares in each pool; all sizes have equal weight, however many subsets they have."""
    enough = np.isfinite(values).sum(1) >= len(law.coefficients)
    values = np.where(enough[:, None], values, np.nan)
    c = _third(law, sizes, values, law.bounds) if law.bounds else np.zeros(len(values))
    a, b = _line(law.basis(sizes, c[:, None]), values)
    return Fit(law, a, b, np.where(enough, c, np.nan) if law.bounds else c)


def _line(basis: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a and b of a - b g by least squares in each pool; NaN without two sizes."""
    known, mean, y = _centred(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        g_mean = np.where(known, basis, 0).sum(1) / known.sum(1)
        g = np.where(known, basis - g_mean[:, None], 0)
        b = -(g * y).sum(1) / (g * g).sum(1)
    return mean + b * g_mean, b


def _centred(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask of known values, their mean in each pool, and deviations from it (0 if unknown, or rounding)."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, values, 0).sum(1) / known.sum(1)
    y = np.where(known, values - mean[:, None], 0)
    return known, mean, np.where(np.abs(y) > ROUNDING * np.abs(mean[:, None]), y, 0)


def _third(law: Law, sizes: np.ndarray, values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """The c of each pool whose basis, with the best a and b, explains most of the variance over sizes."""
    known, _, y = _centred(values)
    weight = known.astype(float)[:, :, None]
    n = np.maximum(known.sum(1), 1)[:, None]
    low, high = (np.full(len(values), np.log(end + law.offset)) for end in bounds)
    rows = np.arange(len(values))
    steps = np.linspace(0, 1, _STEPS)
    for _ in range(_ROUNDS):
        tried = low[:, None] + (high - low)[:, None] * steps
        g = law.basis(sizes, np.exp(tried)[:, :, None] - law.offset)
        spread = (g * g @ weight)[:, :, 0] - (g @ weight)[:, :, 0] ** 2 / n
        with np.errstate(invalid="ignore", divide="ignore"):
            explained = (g @ y[:, :, None])[:, :, 0] ** 2 / spread
        best = np.where(spread > 0, explained, -1.0).argmax(1)
        low = tried[rows, np.maximum(best - 1, 0)]
        high = tried[rows, np.minimum(best + 1, _STEPS - 1)]
    found: np.ndarray = np.exp(tried[rows, best]) - law.offset
    return found


def left_out_error(law: Law, sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Leave-one-size-out root mean square error, (pools,).

    NaN for pools with no more sizes than the law has coefficients.
    """
    pools, n = values.shape
    if n <= len(law.coefficients):
        return np.full(pools, np.nan)
    hidden = np.where(np.eye(n, dtype=bool), np.nan, values[:, None, :]).reshape(-1, n)
    predicted = np.einsum("pii->pi", fit(law, sizes, hidden).at(sizes).reshape(pools, n, n))
    error = (values - predicted) ** 2
    counted = np.isfinite(error)
    with np.errstate(invalid="ignore"):
        found: np.ndarray = np.sqrt(np.where(counted, error, 0).sum(1) / counted.sum(1))
    return found


def errors(sizes: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """Errors at left-out sizes, (pools,), of the laws that can be fitted in the largest number of pools."""
    found = {name: left_out_error(law, sizes, values) for name, law in LAWS.items()}
    judged = {name: int(np.isfinite(error).sum()) for name, error in found.items()}
    most = max(judged.values())
    return {name: error for name, error in found.items() if most and judged[name] == most}


def rivals(found: dict[str, np.ndarray], name: str) -> list[str]:
    """The other laws whose error is not larger than that of `name` by a t-test over pools."""
    if name not in found:
        return []
    return [other for other in found if other != name and not over_pools(found[other] - found[name]).low > 0]


def over_pools(values: np.ndarray, null: float | None = None) -> Estimate:
    """The mean of the values (pools,) that are finite, with Student's interval."""
    return pool_mean(values[np.isfinite(values)].tolist(), null=null)


def lack_of_fit(found: Fit, size: int, values: np.ndarray) -> float | None:
    """p that values (pools,) at a size that was not fitted lie on the law, by t over pools; None if untestable."""
    gap = values - found.at(np.array([float(size)]))[:, 0]
    gap = gap[np.isfinite(gap)]
    level = np.abs(values[np.isfinite(values)]).max(initial=np.abs(found.a[np.isfinite(found.a)]).max(initial=0))
    if len(gap) > 1 and np.abs(gap).max() <= ROUNDING * level:
        return 1.0
    return over_pools(gap, null=0.0).p


def enough_members(found: Fit, least: float, first: int = 1) -> tuple[float, float, float]:
    """N*, the smallest N from which one more member adds less than `least`, on the mean curve over pools; its interval.

    Sizes below `first` are not considered. The interval holds every N* of a curve within the t interval of what one
    more member adds at each N: for a - b/N, those of b/(N(N+1)). Infinite if a million members are not enough, and with
    fewer than two pools.
    """
    pools = int(np.isfinite(found.a).sum())
    middle = _crossed(found, least, first, "estimate") if pools else math.nan
    if pools < 2:
        return middle, -math.inf, math.inf
    return middle, _crossed(found, least, first, "low"), _crossed(found, least, first, "high")


def _crossed(found: Fit, least: float, first: int, end: str) -> float:
    """The smallest N from which one more member adds less, by the estimate or one end of its interval."""

    def less(n: int) -> bool:
        step = found.at(np.array([n, n + 1.0]))
        return bool(getattr(over_pools(step[:, 1] - step[:, 0]), end) < least)

    low = first - 1
    high = first
    while not less(high):
        if high >= MOST_MEMBERS:
            return math.inf
        low = high
        high = 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if less(middle) else (middle, high)
    return float(high)
