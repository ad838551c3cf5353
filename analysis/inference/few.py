"""Warnings where Student's t over few units covers less than it claims: near the ceiling, and with skew."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.special import betainc, betaincinv

CEILING = 0.97
"""Mean accuracy above which few examples are wrong, so that differences are few, discrete and skewed."""
FEWEST = 5
"""With three or four units rounding makes outliers: if two accuracies are equal, the third has the largest share."""
HALF = 0.5
"""Share of the sum of squared deviations up to which a unit is never named."""
FALSE_ALARMS = 0.05
"""How often at most a unit is named among normal values."""


def near_ceiling(levels: Iterable[float], metric: str = "accuracy") -> tuple[str, ...]:
    """A warning for a mean accuracy above 97%; `levels` are fractions, and other metrics have no ceiling."""
    known = np.array([level for level in levels if np.isfinite(level)], dtype=np.float64)
    if metric != "accuracy" or not known.size or not known.mean() > CEILING:
        return ()
    text = (
        f"near the ceiling: mean accuracy {100 * float(known.mean()):.1f}%, where intervals over pools cover too little"
    )
    return (text,)


def dominated(values: np.ndarray, unit: str = "pool") -> tuple[str, ...]:
    """A warning where one of five or more units has a share of the sum of squared deviations above `largest_share`."""
    n = len(values)
    if n < FEWEST:
        return ()
    squares = (values - values.mean()) ** 2
    total = float(squares.sum())
    share = float(squares.max()) / total if total > 0 else 0.0
    limit = largest_share(n)
    if share <= limit:
        return ()
    usual = f"more than {100 * limit:.0f}%: {100 * chance(n, limit):.2g}% by chance"
    return (f"one of {n} {unit}s has {100 * share:.0f}% of the spread ({usual})",)


def largest_share(n: int) -> float:
    """The share of the sum of squared deviations that 5% of samples of `n` normal values exceed, and at least half.

    Above half this is the test of Grubbs (1950) for one outlier, and exact; half is exceeded by fewer samples from 14
    units on.
    """
    return max(HALF, float(betaincinv(0.5, (n - 2) / 2, 1 - FALSE_ALARMS / n)) * (n - 1) / n)


def chance(n: int, share: float) -> float:
    """How often one of `n` normal values has more than `share`, half or more, of the sum of squared deviations.

    At most one can, so it is n times the chance of the first, whose share times n / (n - 1) has a beta distribution.
    """
    return float(n * (1 - betainc(0.5, (n - 2) / 2, share * n / (n - 1))))
