"""Tests that stay valid when a claim is looked at several times while pools are added.

Up to the planned number of pools the error is spent as by Lan and DeMets (1983), with boundaries of the type of O'Brien
and Fleming. Beyond it a test that is valid at any number of pools has what was kept (Lai 1976; Wang and Ramdas,
arXiv:2310.03722): the ratio of marginal likelihoods of the t statistics, with a normal prior on the effect in standard
deviations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr, stdtrit

KEPT = 0.1
"""Share of the error kept for looks beyond the pools of the first run, where no plan was stated."""
PRIOR_VARIANCE = 3.0
"""Of the effect in standard deviations between pools; a small one asks for far larger t where pools are few."""
SAME = 1e-9
SMALLEST = 1e-16
_DEVIATIONS = 8.0
_GRID = np.linspace(float(-ndtri(0.25)), float(-ndtri(SMALLEST / 2)), 32)
"""Half-tail quantiles of one-sided errors from .5 down, at which levels are computed and between which interpolated."""


Boundary = Callable[[float, tuple[float, ...]], float]
"""The one-sided level from the one-sided error and the shares of the plan at the looks."""


@dataclass(frozen=True)
class Stage:
    """A look at a claim: its share of the planned information, and the pools and df of its t test."""

    share: float
    pools: int
    df: float


def spent(alpha: float, share: float) -> float:
    """The one-sided error spent by O'Brien-Fleming-type spending when this share of the planned pools is there."""
    return float(2 * ndtr(ndtri(alpha / 2) / math.sqrt(share))) if share < 1 - SAME else alpha


@lru_cache(maxsize=4096)
def boundary_level(alpha: float, shares: tuple[float, ...]) -> float:
    """The one-sided nominal level at the last of these increasing shares of the plan.

    All looks up to it together reject with probability `spent(alpha, shares[-1])` under the canonical joint normal
    distribution (Jennison and Turnbull 2000, section 19.2), integrated numerically.
    """
    bound = -float(ndtri(spent(alpha, shares[0])))
    nodes, weights = _nodes(shares[0], bound, shares)
    density = weights * np.exp(-(nodes**2) / (2 * shares[0])) / math.sqrt(2 * math.pi * shares[0])
    for before, share in itertools.pairwise(shares):
        step = math.sqrt(share - before)
        bound = _bound(nodes, density, share, step, spent(alpha, share) - spent(alpha, before))
        next_nodes, weights = _nodes(share, bound, shares)
        kernel = np.exp(-(((next_nodes[:, None] - nodes) / step) ** 2) / 2) / (math.sqrt(2 * math.pi) * step)
        density = weights * (kernel @ density)
        nodes = next_nodes
    return float(ndtr(-bound))


def _bound(nodes: np.ndarray, density: np.ndarray, share: float, step: float, error: float) -> float:
    """The boundary that is first crossed at this look with probability `error`, as a normal quantile."""

    def excess(bound: float) -> float:
        return float(density @ ndtr((nodes - bound * math.sqrt(share)) / step)) - error

    return float(brentq(excess, -2.0, 40.0, xtol=1e-10)) if excess(40.0) < 0 < excess(-2.0) else 40.0


def _nodes(share: float, bound: float, shares: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights from far below to the boundary, on the scale of a sum; dense enough for every step."""
    steps = [after / (after - before) for before, after in itertools.pairwise(shares)]
    count = int(np.clip(24 * math.sqrt(max(steps, default=1.0)), 64, 800))
    nodes, weights = _legendre(count)
    low = -_DEVIATIONS * math.sqrt(share)
    half = (min(bound, _DEVIATIONS) * math.sqrt(share) - low) / 2
    return low + half * (nodes + 1), half * weights


@lru_cache(maxsize=16)
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Quadrature on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights


@lru_cache(maxsize=256)
def _level_curve(shares: tuple[float, ...]) -> PchipInterpolator:
    """Logarithm of the one-sided level at the last share, over the grid of errors."""
    levels = [boundary_level(float(2 * ndtr(-quantile)), shares) for quantile in _GRID]
    return PchipInterpolator(_GRID, np.log(np.maximum(levels, 1e-300)))


def _quick_level(alpha: float, shares: tuple[float, ...]) -> float:
    """As `boundary_level`, from the curve where it takes integration."""
    if len(shares) == 1:
        return spent(alpha, shares[0])
    quantile = float(np.clip(-ndtri(alpha / 2), _GRID[0], _GRID[-1]))
    return math.exp(float(_level_curve(shares)(quantile)))


def nominal_level(alpha: float, stages: Sequence[Stage], kept: float, sides: int = 2) -> float:
    """The level of the t test at the last stage, so that all looks together have error `alpha`; 0 if none is left.

    `stages` have increasing shares. Looks beyond the plan have the share `kept` of the error, and what the looks up to
    the plan did not spend: that is the chance at most that a later ratio of likelihoods passes its threshold, for its
    expectation is the chance, under the prior, that the last look up to the plan did not reject (Ville's inequality).
    """
    return _level(alpha, stages, kept, sides, boundary_level)


def _level(alpha: float, stages: Sequence[Stage], kept: float, sides: int, boundary: Boundary) -> float:
    """As `nominal_level`, with the given function for the levels up to the plan."""
    planned = _planned(stages)
    level = sides * boundary(alpha * (1 - kept) / sides, _shares(planned))
    if len(planned) == len(stages):
        return level
    end = planned[-1]
    left = alpha - sides * spent(alpha * (1 - kept) / sides, end.share)
    if left <= alpha * SAME:
        return 0.0
    critical = float(stdtrit(end.df, 1 - level / sides)) if level > 0 else math.inf
    passed = float(stdtr(end.df, -critical / math.sqrt(1 + end.pools * PRIOR_VARIANCE)))
    threshold = (1 - sides * passed) / left
    return sides * float(stdtr(stages[-1].df, -_t_of_ratio(threshold, stages[-1])))


def likelihood_ratio(t: float, stage: Stage) -> float:
    """The ratio of marginal likelihoods of a t statistic: effects from the prior against none."""
    inflation = 1 + stage.pools * PRIOR_VARIANCE
    growth = (1 + t**2 / stage.df) / (1 + t**2 / (stage.df * inflation))
    return float(growth ** ((stage.df + 1) / 2) / math.sqrt(inflation))


def _t_of_ratio(threshold: float, stage: Stage) -> float:
    """The |t| with this ratio of likelihoods; infinite if so few pools cannot reach it."""
    inflation = 1 + stage.pools * PRIOR_VARIANCE
    growth = (max(threshold, SMALLEST) * math.sqrt(inflation)) ** (2 / (stage.df + 1))
    if growth >= inflation:
        return math.inf
    return math.sqrt(stage.df * max(growth - 1, 0.0) / (1 - growth / inflation))


def sequential_p(p: float, stages: Sequence[Stage], kept: float, sides: int = 2) -> float:
    """The smallest error of all looks together at which the last one rejects; 1 if none does (NaN stays).

    With one look at all planned pools it is p, divided by the share of the error that is not kept.
    """
    if math.isnan(p) or (len(stages) == 1 and stages[0].share >= 1 - SAME):
        return min(1.0, p / (1 - kept))
    low = math.log(SMALLEST)
    high = math.log(sides / 2)
    if _level(math.exp(high), stages, kept, sides, _quick_level) < p:
        return 1.0
    for _ in range(48):
        middle = (low + high) / 2
        if _level(math.exp(middle), stages, kept, sides, _quick_level) >= p:
            high = middle
        else:
            low = middle
    return math.exp(high)


def p_over_looks(p_values: Sequence[float], stages: Sequence[Stage], kept: float, sides: int = 2) -> float:
    """The p over all looks (the last is now; NaN where an earlier one does not count, being of another direction).

    A finding of an earlier look stands while the present p, uncorrected, would give it too (Liu and Anderson 2008).
    """
    found = [sequential_p(p, stages[: n + 1], kept, sides) for n, p in enumerate(p_values)]
    return max(p_values[-1], float(np.nanmin(found))) if not math.isnan(p_values[-1]) else math.nan


def _planned(stages: Sequence[Stage]) -> Sequence[Stage]:
    """The stages up to the plan, or the first alone if it is beyond: nothing was seen when those pools were added."""
    return stages[: max(1, sum(one.share <= 1 + SAME for one in stages))]


def _shares(stages: Sequence[Stage]) -> tuple[float, ...]:
    """Their shares of the plan."""
    return tuple(one.share for one in stages)
