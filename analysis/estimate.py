"""One estimate with its unit of replication, and the one place where an interval is made.

Subsets of one pool share members and are never replicates: they are averaged inside their pool, and Student's t is
taken over the pool means (its 95% interval covers 94-95% at 5 to 20 pools, where rows as replicates cover far less).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95% interval; `p` is two-sided, None where no null value was asked about.

    `n_units` counts the units of replication, `se` and `df` are of Student's t; all in the unit of the values.
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
    warnings: tuple[str, ...]


def pool_mean(
    values_per_pool: Sequence[float], *, estimand: str = "mean", null: float | None = None, warnings: Sequence[str] = ()
) -> Estimate:
    """The mean over pools of one value per pool, with Student's t interval: it speaks of new pools of this recipe.

    One pool has an infinite interval, no pool the estimate NaN, each with a warning. Raises ValueError for a value
    that is not finite: leave it out, and say so in `warnings`.
    """
    values = np.asarray(values_per_pool, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{estimand}: {int((~np.isfinite(values)).sum())} of {values.size} pool values are not finite")
    mean = float(values.mean()) if values.size else math.nan
    if values.size < 2:
        what = "one pool: no interval can be given" if values.size else "no pool: nothing to estimate"
        return Estimate(
            estimand, "pool", values.size, mean, math.nan, 0.0, -math.inf, math.inf, None, (*warnings, what)
        )
    se, df = float(values.std(ddof=1) / math.sqrt(values.size)), values.size - 1.0
    half = float(stdtrit(df, 0.5 + LEVEL / 2)) * se
    if se == 0:
        warnings = (*warnings, "no spread between pools: the interval has no width")
    p = None if null is None or se == 0 else float(2 * stdtr(df, -abs(mean - null) / se))
    return Estimate(estimand, "pool", values.size, mean, se, df, mean - half, mean + half, p, tuple(warnings))
