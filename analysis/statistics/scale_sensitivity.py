"""Sensitivity of merges to the scale of their members' weights: area under the loss, critical factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtr

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import LEVEL, Estimate, Question, unit_mean
from analysis.statistics._scale import (
    SideResult,
    factors_text,
    pair_by_subset,
    paired_results,
    scaled_rows,
    side_results,
)

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
    retention_margin: float | None = None,
) -> pd.DataFrame:
    """Loss when members' weights are multiplied by c, above and below 1, per population, size, label and arm.

    The arm names the members that are multiplied. `area`: the mean over log c, from 1 to the last factor `reach`, of
    accuracy at 1 minus accuracy at c (trapezoids over `factors`; areas over other factors are other quantities); mean
    in each pool, then Student's t over pools, against 0. `critical factor`: where a pool's mean curve first drops by
    `drop`, log-linear between factors; the median over pools, with the distribution-free interval between two order
    statistics, infinite below 6 pools. A pool that never drops so far is censored (`censored` is their share) and
    ranks beyond all others: if more than half are censored, the median is infinite above 1, 0 below 1.

    `retention area` and `retention critical factor`: the same of (accuracy at c - chance) / (accuracy at 1 - chance),
    chance being the share of the largest class. They have no estimate where accuracy at 1 is not above chance in every
    pool by a tenth of the way to 100% and three standard errors of a guess.
    Outputs that overflow have no accuracy (`non_finite` is their share of the side's rows). The range ends before the
    first factor at which most subsets overflow; a subset that overflows within the range, or has a failed or missing
    row, is left out and counted in `warnings`.

    With the labels `a` and `b`: the areas of `a` minus those of `b`, paired by subset, if both were scaled alike;
    `single` is the mean of the subset's members. `margin` is in accuracy, `retention_margin` in retention.
    Raises AnalysisError for a missing column, duplicated rows, or a label that no scaled row has.
    """
    if not drop > 0:
        raise AnalysisError("drop", f"{drop} is not above 0", "it is a loss of accuracy, as a fraction")
    paired = bool(a or b)
    if paired and not (a and b):
        raise AnalysisError("labels", "a difference needs both `a` and `b`", "name the two methods to compare")
    rows = scaled_rows(candidates)
    results = paired_results(pair_by_subset(rows, a, b), a, b) if paired else side_results(rows)
    return pd.DataFrame([row for one in results for row in _rows(one, paired, drop, (margin, retention_margin))])


def _rows(
    one: SideResult, paired: bool, drop: float, margins: tuple[float | None, float | None]
) -> list[dict[str, Any]]:
    """The rows of one side; a difference has no critical factors."""
    areas = [_area(one, margins[0]), _retention_area(one, margins[1])]
    return areas if paired else [*areas, _critical(one, drop), _retention_critical(one, drop)]


def _area(one: SideResult, margin: float | None) -> dict[str, Any]:
    """The row of the area."""
    areas = one.drop_area / one.span if len(one.pools) else np.zeros(0)
    question = Question(f"accuracy lost, {_scope(one)}", null=0.0, margin=margin)
    return {**one.columns(f"area {one.side.name}", math.nan), **asdict(unit_mean(areas, question, one.warnings))}


def _retention_area(one: SideResult, margin: float | None) -> dict[str, Any]:
    """The row of the area of the retention lost; without an estimate where retention is not defined."""
    areas = one.retention_area / one.span if len(one.pools) and not one.problem else np.zeros(0)
    question = Question(f"retention lost, {_scope(one)}", null=0.0, margin=margin)
    estimate = unit_mean(areas, question, _with_problem(one))
    return {**one.columns(f"retention area {one.side.name}", math.nan), **asdict(estimate)}


def _scope(one: SideResult) -> str:
    """What an area is a mean over."""
    return f"mean over log factor, factors {factors_text(one.side.factors)}"


def _with_problem(one: SideResult) -> tuple[str, ...]:
    """The warnings of a result, after the reason why retention is not defined."""
    return (one.problem, *one.warnings) if one.problem else one.warnings


def _critical(one: SideResult, drop: float) -> dict[str, Any]:
    """The row of the critical factor."""
    warnings = _with_problem(one) if one.is_at_chance else one.warnings
    found, censored = _median_factor(one, one.accuracy_drops, drop, "accuracy", warnings)
    return {**one.columns(f"critical factor {one.side.name}", censored), **asdict(found)}


def _retention_critical(one: SideResult, drop: float) -> dict[str, Any]:
    """The row of the factor at which retention is lost; without an estimate where retention is not defined."""
    curves = one.retention_drops[:0] if one.problem else one.retention_drops
    found, censored = _median_factor(one, curves, drop, "retention", _with_problem(one))
    return {**one.columns(f"retention critical factor {one.side.name}", censored), **asdict(found)}


def _median_factor(
    one: SideResult, curves: np.ndarray, drop: float, noun: str, texts: Sequence[str]
) -> tuple[Estimate, float]:
    """The median factor at which curves (pools, factors) reach `drop`, and the share of pools that never do."""
    side = one.side
    crossings = np.sort([crossing(side.distance, losses, drop) for losses in curves])
    n = len(crossings)
    beyond = int(np.isinf(crossings).sum())
    warnings = list(texts)
    if beyond:
        so = ": the median lies beyond" if 2 * beyond > n else ""
        warnings.append(f"{beyond} of {n} pools lose less than {drop:g} up to a factor of {side.factors[-1]:g}{so}")
    if n < FEWEST:
        few = {0: "no pool: nothing to estimate", 1: "one pool: no interval can be given"}
        warnings.append(few.get(n, f"{n} pools: a median has a 95% interval from {FEWEST} pools on"))
    middle, low, high = median_interval(crossings)
    low, high = sorted([side.factor(low), side.factor(high)]) if n >= FEWEST else (-math.inf, math.inf)
    what = f"factor at which {drop:g} of {noun} is lost, median"
    nan = math.nan
    found = Estimate(what, "pool", n, side.factor(middle), nan, nan, low, high, None, None, None, "", tuple(warnings))
    return found, beyond / n if n else nan


def crossing(distance: np.ndarray, drops: np.ndarray, drop: float) -> float:
    """Distance at which the curve first reaches `drop`, interpolated linearly; infinite if it never does."""
    reached = np.flatnonzero(drops >= drop)
    if not len(reached):
        return math.inf
    after = int(reached[0])
    before = after - 1
    share = (drop - drops[before]) / (drops[after] - drops[before])
    return float(distance[before] + share * (distance[after] - distance[before]))


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The median of sorted values, some of which may be infinite, with the narrowest pair of values that covers it.

    Each value is below the median of its distribution with probability 1/2, so the k-th values from both ends miss it
    with a binomial probability: at most 5% from 6 values on; with fewer values the interval is infinite.
    """
    n = len(values)
    if not n:
        return math.nan, -math.inf, math.inf
    middle = float((values[(n - 1) // 2] + values[n // 2]) / 2)
    if n < FEWEST:
        return middle, -math.inf, math.inf
    k = max(k for k in range(1, n // 2 + 1) if bdtr(k - 1, n, 0.5) <= (1 - LEVEL) / 2)
    return middle, float(values[k - 1]), float(values[n - k])
