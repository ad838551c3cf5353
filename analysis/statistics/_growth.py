"""Growth of a value with the number of members as measured, and the size from which more members add little."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.inference.bands import simultaneous_means
from analysis.inference.estimate import ROUNDING, Estimate, Question, pool_mean
from analysis.rows.select import METRICS


@dataclass(frozen=True)
class Curve:
    """One group: `values` (pools, sizes) are means over subsets, NaN if a pool lacks a size; `sizes` may begin with 1.

    `merged` are the sizes above 1; `gains` has one estimate for each, `steps` one for each interval between two.
    """

    key: dict[str, Any]
    sizes: np.ndarray
    values: np.ndarray
    merged: np.ndarray
    gains: list[Estimate]
    steps: list[Estimate]
    enough: Estimate
    warnings: tuple[str, ...]


def measure(  # noqa: PLR0913 - each is an argument of its own
    key: dict[str, Any],
    sizes: np.ndarray,
    values: np.ndarray,
    warnings: tuple[str, ...],
    *,
    value: str,
    eps: float,
    margin: float | None,
) -> Curve:
    """The means at all sizes above 1, the steps between them, and N*."""
    merged = sizes[sizes > 1]
    at = values[:, sizes > 1]
    lacking = int(np.isnan(at).any(axis=1).sum())
    warnings = (
        (*warnings, f"sizes lack pools: {lacking} of {len(at)} pools have not all of them") if lacking else warnings
    )
    asked = {"null": 0.0, "margin": margin} if value == "gain" else {}
    means = [Question(f"{value} at N = {size:g}", "pool", **asked) for size in merged]
    gains = simultaneous_means(at, means, warnings)
    changes = np.diff(at, axis=1) / np.diff(merged)
    between = [Question(f"{value} per member more, N = {a:g} to {b:g}", "pool", 0.0, eps) for a, b in spans(merged)]
    steps = simultaneous_means(changes, between, warnings)
    change = pool_mean(_grown(at).tolist())
    enough = enough_measured(merged, steps, change, value, eps, warnings)
    return Curve(key, sizes, values, merged, gains, steps, enough, warnings)


def _grown(values: np.ndarray) -> np.ndarray:
    """The last size minus the first in pools that have both; 0 if they differ by rounding."""
    if not values.shape[1]:
        return np.array([])
    both = values[np.isfinite(values[:, [0, -1]]).all(axis=1)]
    change = both[:, -1] - both[:, 0]
    return np.where(np.abs(change) > ROUNDING * np.abs(both[:, -1]), change, 0.0)


def spans(sizes: np.ndarray) -> list[tuple[float, float]]:
    """Neighbouring sizes."""
    return list(itertools.pairwise(sizes.tolist()))


def falls(value: str) -> bool:
    """Whether lower is better."""
    return value in METRICS and value != "accuracy"


def enough_measured(
    sizes: np.ndarray, steps: Sequence[Estimate], change: Estimate, value: str, eps: float, warnings: Sequence[str]
) -> Estimate:
    """N*, the smallest measured size from which on every measured step adds less than `eps` per member.

    `steps` are simultaneous estimates per member between neighbouring `sizes`, `change` is that from the smallest to
    the largest size. The interval holds N* of every curve within the intervals of the steps. NaN if the largest size
    is not enough for all of them, and, without interval, if the value does not improve; a warning says why.
    """
    sign = -1.0 if falls(value) else 1.0
    ends = [np.array([sign * step.low, sign * step.high]) for step in steps]
    middle = _first_below(sizes, np.array([sign * step.estimate for step in steps]), eps)
    low = min(_first_below(sizes, np.array([pair.min() for pair in ends]), eps), float(sizes.max(initial=0)))
    high = _first_below(sizes, np.array([pair.max() for pair in ends]), eps)
    reason = _why_none(sizes, change, value, sign, low, high)
    if sign * change.estimate <= 0 or change.n_units < 2 or not steps:
        low = -math.inf
        high = math.inf
    if not math.isfinite(high):
        middle = math.nan
    estimand = f"members from which one more adds less than {eps:g} of {value}, among the sizes measured"
    return enough_estimate(estimand, (middle, low, high), change, (*warnings, *reason))


def enough_estimate(
    estimand: str, ends: tuple[float, float, float], over: Estimate, warnings: Sequence[str]
) -> Estimate:
    """An N* with its interval; pools and df are those of `over`."""
    return Estimate(
        estimand,
        "pool",
        over.n_units,
        ends[0],
        math.nan,
        over.df,
        ends[1],
        ends[2],
        None,
        None,
        None,
        "",
        tuple(warnings),
    )


def _first_below(sizes: np.ndarray, steps: np.ndarray, eps: float) -> float:
    """The size at which the first step begins from which on all steps are below `eps`; infinite without one."""
    large = np.flatnonzero(~(steps < eps))
    first = int(large[-1]) + 1 if len(large) else 0
    return float(sizes[first]) if first < len(steps) else math.inf


def _why_none(sizes: np.ndarray, change: Estimate, value: str, sign: float, low: float, high: float) -> list[str]:
    """Why there is no N*, or why it may be smaller; empty without a reason."""
    if len(sizes) < 2:
        return ["N* needs two sizes or more"]
    if not change.n_units:
        return ["no pool has the smallest and the largest size: no N*"]
    if change.n_units == 1:
        return ["N* is not identified from one pool"]
    if sign * change.estimate <= 0:
        shown = sign * (change.high if sign > 0 else change.low) <= 0
        return [
            f"merging more {'does not pay' if shown else 'is not shown to pay'}: from N = {sizes[0]:g} to {sizes[-1]:g}"
            f" {value} changes by {change.estimate:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
        ]
    if not math.isfinite(high):
        return [f"N* is not identified: by its interval, one more member may still add more at N = {sizes[-2]:g}"]
    return [f"N* may be below {sizes[0]:g}, the smallest size"] if low == sizes[0] else []
