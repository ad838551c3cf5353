"""How much accuracy is lost when members are multiplied before their merge, and how far they may be."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtr

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import LEVEL, Estimate, Question, unit_mean
from analysis.statistics._scale import Measured, measured, paired_by_subset, scaled

CITES = ("wang2024rethinking", "student1908mean")

FEWEST = 6
"""Pools from which the smallest and the largest value are a 95% interval of the median."""


def scale_sensitivity(
    candidates: pd.DataFrame,
    *,
    a: str = "",
    b: str = "",
    drop: float = 0.05,
    margin: float | None = None,
) -> pd.DataFrame:
    """Accuracy lost over the factors on members' weights, each side of 1 apart, per population, size, label and arm.

    Areas: the mean over log c, from 1 to the last factor `reach`, of accuracy at 1 minus accuracy at c (trapezoids);
    mean in each pool, then t over pools, against 0. Critical factors: where a pool's mean curve first falls `drop`
    below its accuracy at 1, log-linear between factors; the median over pools, with the distribution-free interval
    between two order statistics, infinite below 6 pools. A pool that never falls so far is censored (their share is
    `censored`) and counts as beyond all others: where more than half are, the median is infinite above 1, 0 below 1.
    Outputs that overflow are no accuracies (`non_finite`: their share of the side's rows). A factor at which most
    subsets overflow ends the range before it; a subset that overflows within the range has no area to be compared
    with the others', so it is left out and counted, as is one with a row that failed or is missing.

    With the labels `a` and `b`: the area of `a` minus that of `b`, paired by subset, where both were scaled alike;
    `single` stands for the mean of the subset's members. The arm tells which members are multiplied.
    Raises AnalysisError for a missing column, duplicated rows, or a label that no scaled row has.
    """
    if not drop > 0:
        raise AnalysisError("drop", f"{drop} is not above 0", "it is a loss of accuracy, as a fraction")
    paired = bool(a or b)
    if paired and not (a and b):
        raise AnalysisError("labels", "a difference takes both `a` and `b`", "name the two methods to compare")
    rows = scaled(candidates)
    answers = []
    for one in measured(paired_by_subset(rows, a, b) if paired else rows):
        answers += [_area(one, margin)] if paired else [_area(one, margin), _critical(one, drop)]
    return pd.DataFrame(answers)


def _area(one: Measured, margin: float | None) -> dict[str, Any]:
    """The row of the area."""
    areas = one.lost / one.span if len(one.falls) else np.zeros(0)
    told = unit_mean(areas, Question("accuracy lost, mean over log factor", null=0.0, margin=margin), one.told)
    return {**one.head(f"area {one.side.name}", math.nan), **asdict(told)}


def _critical(one: Measured, drop: float) -> dict[str, Any]:
    """The row of the critical factor."""
    side = one.side
    crossings = np.sort([crossing(side.distance, fall, drop) for fall in one.falls])
    n, beyond = len(crossings), int(np.isinf(crossings).sum())
    told = list(one.told)
    if beyond:
        so = ": the median lies beyond" if 2 * beyond > n else ""
        told.append(f"{beyond} of {n} pools lose less than {drop:g} up to a factor of {side.factors[-1]:g}{so}")
    if n < FEWEST:
        few = {0: "no pool: nothing to estimate", 1: "one pool: no interval can be given"}
        told.append(few.get(n, f"{n} pools: a median has a 95% interval from {FEWEST} pools on"))
    middle, low, high = median_interval(crossings)
    low, high = sorted([side.factor(low), side.factor(high)]) if n >= FEWEST else (-math.inf, math.inf)
    what, nan = f"factor at which {drop:g} of accuracy is lost, median", math.nan
    found = Estimate(what, "pool", n, side.factor(middle), nan, nan, low, high, None, None, None, "", tuple(told))
    return {**one.head(f"critical factor {side.name}", beyond / n if n else nan), **asdict(found)}


def crossing(distance: np.ndarray, fall: np.ndarray, drop: float) -> float:
    """Where a fall first reaches `drop`, on the line between two points; infinite where it never does."""
    reached = np.flatnonzero(fall >= drop)
    if not len(reached):
        return math.inf
    after = int(reached[0])
    before = after - 1
    share = (drop - fall[before]) / (fall[after] - fall[before])
    return float(distance[before] + share * (distance[after] - distance[before]))


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The median of sorted values, some of which may be infinite, with the narrowest pair of values that covers it.

    Each value is below the median of its distribution with chance 1/2, so the k-th from each end miss it with a
    binomial chance: of at most 5% from 6 values on, below that the interval is infinite.
    """
    n = len(values)
    if not n:
        return math.nan, -math.inf, math.inf
    middle = float((values[(n - 1) // 2] + values[n // 2]) / 2)
    if n < FEWEST:
        return middle, -math.inf, math.inf
    k = max(k for k in range(1, n // 2 + 1) if bdtr(k - 1, n, 0.5) <= (1 - LEVEL) / 2)
    return middle, float(values[k - 1]), float(values[n - k])
