"""Warnings where Student's t over few units covers less than it claims: near the ceiling, and with skew."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.special import betainc

CEILING = 0.97
"""Mean accuracy above which few examples are wrong, so that differences are few, discrete and skewed."""
FEWEST = 5
"""With three units one of them always has more than half of the sum of squares, with four nearly always."""


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
    """A warning where one of five or more units has more than half of the sum of squared deviations."""
    if len(values) < FEWEST:
        return ()
    squares = (values - values.mean()) ** 2
    total = float(squares.sum())
    share = float(squares.max()) / total if total > 0 else 0.0
    if share <= 0.5:
        return ()
    n = len(values)
    text = f"one of {n} {unit}s has {100 * share:.0f}% of the spread (more than half: {100 * chance(n):.0f}% by chance)"
    return (text,)


def chance(n: int) -> float:
    """How often one of `n` normal values has more than half of the sum of squared deviations.

    At most one can, so it is n times the chance of the first, whose share times n / (n - 1) has a beta distribution.
    """
    return float(n * (1 - betainc(0.5, (n - 2) / 2, n / (2 * (n - 1)))))
