"""Estimates with their unit of replication and Student's t intervals.

Subsets of one pool share members and are never replicates: they are averaged inside their pool, and Student's t is
computed over the pool means (its 95% interval covers 94-95% at 5 to 20 pools; rows as replicates cover far less).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from analysis.core.errors import AnalysisError
from analysis.inference.few import dominated


def stratified_mean(
    values: np.ndarray,
    populations: np.ndarray,
    question: Question,
    warnings: Sequence[str] = (),
    shares: np.ndarray | None = None,
) -> Estimate:
    """The weighted sum of the means of the cells, with their own variances; equal shares by default.

    `values` and `populations` have one entry per pool, `shares` one per population in sorted order. Stratified t with
    Satterthwaite's df; no interval if a cell has one pool.
    """
    names = sorted(set(populations))
    cells = [values[populations == name] for name in names]
    shares = np.full(len(names), 1 / max(len(names), 1)) if shares is None else shares
    if not names:
        return unit_mean(values, question, warnings)
    estimate = float(sum(share * cell.mean() for share, cell in zip(shares, cells, strict=True)))
    alone = [name for name, cell in zip(names, cells, strict=True) if len(cell) == 1]
    if alone:
        warnings = (*warnings, f"one pool in `{alone[0]}`: no interval can be given")
        return student(estimate, math.nan, 0.0, len(values), question, warnings)
    for cell in cells:
        warnings = (*warnings, *(dominated(cell) if spread(cell) > 0 else ()))
    parts = [
        ((share * spread(cell)) ** 2 / len(cell), len(cell) - 1) for share, cell in zip(shares, cells, strict=True)
    ]
    variance = sum(part for part, _ in parts)
    shared = sum(part**2 / df for part, df in parts)
    df = variance**2 / shared if shared > 0 else float(len(values) - len(cells))
    return student(estimate, math.sqrt(variance), df, len(values), question, warnings)


LEVEL = 0.95
ROUNDING = 1e-12
"""Relative difference below which values are equal up to rounding, such as equal accuracies of several pools."""
NO_SPREAD = "no spread between"
"""How the warning of an interval without width begins."""
DIFFERENT = "different"
BEYOND_MARGIN = "beyond the margin"
EQUIVALENT = "equivalent"
INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95% interval; `p` is two-sided, None without a null value.

    `n_units` counts the units of replication, `se` and `df` are of Student's t; all in the unit of the values, as is
    `margin`, the smallest difference that matters. `p_adjusted` is p corrected for its family of tests (see
    `analysis.inference.verdict`), `verdict` one of `beyond the margin`, `different`, `equivalent` and
    `inconclusive`, or empty without a null value. `p_equivalent` is the p that the distance to the null value is below
    the margin; None without a margin.
    """

    estimand: str
    unit: str
    n_units: int
    estimate: float
    se: float
    df: float
    low: float
    high: float
    p: float | None
    p_adjusted: float | None
    margin: float | None
    verdict: str
    warnings: tuple[str, ...]
    p_equivalent: float | None = None

    @property
    def is_identical(self) -> bool:
        """Whether no test example differs, so that the interval is an exact bound and not Student's."""
        return self.se == 0 and self.high > self.low


def two_sided(estimate: float, se: float, df: float, null: float = 0.0) -> float | None:
    """Two-sided p of Student's t against a null value; None without spread."""
    return float(2 * stdtr(df, -abs(estimate - null) / se)) if se > 0 and df > 0 else None


def equivalence_p(estimate: float, se: float, df: float, margin: float, null: float = 0.0) -> float | None:
    """The larger p of the two one-sided tests that the distance to `null` is below `margin` (TOST)."""
    return float(stdtr(df, (abs(estimate - null) - margin) / se)) if se > 0 and df > 0 else None


def beyond_margin_p(estimate: float, se: float, df: float, margin: float, null: float = 0.0) -> float | None:
    """The p of the minimum-effect test: below alpha where the whole (1 - alpha) interval lies beyond the margin.

    Twice the one-sided p against the nearer end of the margin, so the size is at most alpha for effects within it.
    """
    excess = abs(estimate - null) - margin
    return min(1.0, float(2 * stdtr(df, -excess / se))) if se > 0 and df > 0 else None


def verdict_of(p: float | None, p_equivalent: float | None, p_beyond: float | None, alpha: float = 1 - LEVEL) -> str:
    """The verdict from the p values that an effect is zero, outside the margin, and inside it.

    `equivalent` if the (1 - 2 alpha) interval lies inside the margin, even if it excludes zero, since such a
    difference is too small to matter; else `beyond the margin` if the (1 - alpha) interval lies outside it; else
    `different` if that interval excludes zero, by an amount that may not matter; else `inconclusive`.
    """
    if p_equivalent is not None and p_equivalent < alpha:
        return EQUIVALENT
    if p_beyond is not None and p_beyond < alpha:
        return BEYOND_MARGIN
    return DIFFERENT if p is not None and p < alpha else INCONCLUSIVE


def margin_p_values(estimate: Estimate, null: float | None = None) -> tuple[float | None, float | None]:
    """The p values that the effect lies outside and inside the margin; None without margin or spread.

    Without spread, an exact p of equivalence may be known.
    """
    if estimate.margin is None:
        return None, None
    about = (estimate.estimate, estimate.se, estimate.df, estimate.margin, null or 0.0)
    within = equivalence_p(*about) if estimate.p_equivalent is None else estimate.p_equivalent
    return within, beyond_margin_p(*about)


@dataclass(frozen=True)
class Question:
    """Estimand, unit of replication, null value and margin of an estimate.

    Raises AnalysisError unless the margin is above 0.
    """

    estimand: str
    unit: str = "pool"
    null: float | None = None
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.margin is not None and not self.margin > 0:
            hint = "it is the smallest difference that matters, in the unit of the values"
            raise AnalysisError("margin", f"{self.margin} is not above 0", hint)


def student(
    estimate: float, se: float, df: float, n_units: int, question: Question, warnings: Sequence[str] = ()
) -> Estimate:
    """An estimate with Student's interval from its standard error; infinite if `df` is not above 0 or se is NaN.

    Without spread (se = 0) the interval has no width, there is no p, and a warning says so.
    """
    unit = question.unit
    null = question.null
    margin = question.margin
    half = float(stdtrit(df, 0.5 + LEVEL / 2)) * se if df > 0 and not math.isnan(se) else math.inf
    if se == 0:
        warnings = (*warnings, f"{NO_SPREAD} {unit}s: the interval has no width")
    p = None if null is None else two_sided(estimate, se, df, null)
    close = None if margin is None else equivalence_p(estimate, se, df, margin, null or 0.0)
    beyond = None if margin is None else beyond_margin_p(estimate, se, df, margin, null or 0.0)
    verdict = "" if null is None else verdict_of(p, close, beyond)
    low, high = (estimate - half, estimate + half) if math.isfinite(half) else (-math.inf, math.inf)
    numbers = (n_units, estimate, se, df, low, high, p, None, margin)
    return Estimate(question.estimand, unit, *numbers, verdict, tuple(warnings), close)


def spread(values: np.ndarray) -> float:
    """Standard deviation of two or more values; 0 if they differ only by rounding."""
    found = float(values.std(ddof=1))
    return found if found > ROUNDING * np.abs(values).max() else 0.0


def unit_mean(values: np.ndarray, question: Question, warnings: Sequence[str] = ()) -> Estimate:
    """The mean of one value per unit, with Student's t interval for new units of this kind.

    One unit has an infinite interval, no unit the estimate NaN, each with a warning, as has a unit with most of the
    spread (`dominated`). Raises ValueError for a value that is not finite: leave it out and add a warning.
    """
    n = values.size
    n_not_finite = int((~np.isfinite(values)).sum())
    if n_not_finite:
        raise ValueError(f"{question.estimand}: {n_not_finite} of {n} {question.unit} values are not finite")
    mean = float(values.mean()) if n else math.nan
    if n < 2:
        what = f"one {question.unit}: no interval can be given" if n else f"no {question.unit}: nothing to estimate"
        return student(mean, math.nan, 0.0, n, question, (*warnings, what))
    deviation = spread(values)
    skew = dominated(values, question.unit) if deviation > 0 else ()
    return student(mean, deviation / math.sqrt(n), n - 1.0, n, question, (*warnings, *skew))


def pool_mean(
    values_per_pool: Sequence[float],
    *,
    estimand: str = "mean",
    null: float | None = None,
    margin: float | None = None,
    warnings: Sequence[str] = (),
) -> Estimate:
    """The mean over pools of one value per pool, with Student's t interval, as `unit_mean` of the unit pool."""
    question = Question(estimand, "pool", null, margin)
    return unit_mean(np.asarray(values_per_pool, dtype=np.float64), question, warnings)
