"""Pairs of members with features and a target, per pool: rank correlation, leave-pool-out R², partial slopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.inference.components import jackknife

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

FEWEST = 4
"""Minimum number of members of a pool: three members have only three pairs, each sharing a member with both others."""

_FLAT = 1e-12


@dataclass(frozen=True)
class Pairs:
    """The pairs of one pool: `ends` (pairs, 2) are positions of members, from 0; `features` (pairs, predictors),
    `target` (pairs,); NaN for unknown values.
    """

    pool_id: str
    ends: Indices
    features: Array
    target: Array

    @property
    def known(self) -> Flags:
        """Pairs with every feature."""
        return np.asarray(np.isfinite(self.features).all(axis=1))

    @property
    def usable(self) -> Flags:
        """Pairs with every feature and the target."""
        return np.asarray(self.known & np.isfinite(self.target))

    @property
    def n_members(self) -> int:
        """Members in usable pairs."""
        return len(np.unique(self.ends[self.usable]))

    def ranked(self) -> Pairs:
        """The pairs with ranks as values (mid-ranks for ties): features over known pairs, targets over usable ones."""
        from scipy.stats import rankdata

        features = np.full_like(self.features, np.nan)
        target = np.full_like(self.target, np.nan)
        features[self.known] = rankdata(self.features[self.known], axis=0)
        target[self.usable] = rankdata(self.target[self.usable])
        return replace(self, features=features, target=target)


def unit(values: Array) -> Array:
    """Centred and of norm 1 along the last axis, NaN as zero: products of two such vectors are correlations.

    Vectors without spread become zeros.
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(-1, keepdims=True) / np.maximum(known.sum(-1, keepdims=True), 1)
    centred = np.where(known, filled - mean, 0.0)
    norm = np.linalg.norm(centred, axis=-1, keepdims=True)
    flat = norm <= _FLAT * np.linalg.norm(filled, axis=-1, keepdims=True)
    return np.asarray(np.where(flat, 0.0, centred / np.where(flat, 1.0, norm)))


def has_spread(values: Array) -> bool:
    """Whether values differ by more than rounding."""
    return bool(unit(values).any())


def rank_correlation(pool: Pairs) -> float:
    """Spearman's, over the usable pairs of a pool with one feature."""
    kept = Pairs(pool.pool_id, pool.ends[pool.usable], pool.features[pool.usable], pool.target[pool.usable]).ranked()
    return float(unit(kept.features[:, 0]) @ unit(kept.target))


def left_out_r2(pools: Sequence[Pairs]) -> tuple[float, float]:
    """R² in new pools of a line fitted on other pools, with its standard error by the jackknife over pools.

    Squared errors in each pool, of the line fitted on the others, are summed over pools before they are divided by the
    sum of squares; a mean of the pools' R² has no lower bound. Target and features are centred in their pools, so the
    baseline is the pool's own mean; below 0 if the line is worse. NaN for one pool, and the error for two.
    """
    n = len(pools)
    centred = [tuple(part - part.mean(axis=0) for part in (p.features[p.usable], p.target[p.usable])) for p in pools]
    norms = np.sqrt(np.sum([(x**2).sum(axis=0) for x, _ in centred], axis=0))
    scaled = [(x / norms, y) for x, y in centred]
    products = _Products(
        *(np.array(part) for part in zip(*((x.T @ x, x.T @ y, y @ y) for x, y in scaled), strict=True))
    )
    every = np.arange(n)
    if n < 2:
        return np.nan, np.nan
    estimate = products.left_out_r2(every)
    if n < 3:
        return estimate, np.nan
    without = np.array([products.left_out_r2(np.delete(every, k)) for k in range(n)])
    return estimate, float(jackknife(without))


@dataclass(frozen=True)
class _Products:
    """Sums of products in each pool: x'x (pools, features, features), x'y (pools, features), y'y (pools,)."""

    squares: Array
    crossed: Array
    totals: Array

    def left_out_r2(self, pools: Indices) -> float:
        """The R² over some pools of lines that were fitted on the others of them."""
        squares = self.squares[pools]
        crossed = self.crossed[pools]
        error = 0.0
        for own, right, total in zip(squares, crossed, self.totals[pools], strict=True):
            slopes = np.linalg.lstsq(squares.sum(0) - own, crossed.sum(0) - right, rcond=None)[0]
            error += float(total - 2 * slopes @ right + slopes @ own @ slopes)
        return 1 - error / float(self.totals[pools].sum())


def partial_slopes(pools: Sequence[Pairs]) -> tuple[Array, Array] | None:
    """Slopes of the target on all features jointly, and their standard errors by the jackknife over pools.

    All are standardised in their pools, and pools have equal weight. Errors are NaN for one pool; returns None if pairs
    are too few or features collinear.
    """
    count = pools[0].features.shape[1]
    scaled = [(unit(pool.features[pool.usable].T).T, unit(pool.target[pool.usable])) for pool in pools]
    squares = np.array([x.T @ x for x, _ in scaled])
    crossed = np.array([x.T @ y for x, y in scaled])
    free = sum(len(y) - 1 for _, y in scaled) - count
    if free < 1 or np.linalg.matrix_rank(squares.sum(axis=0), hermitian=True) < count:
        return None
    slopes = np.linalg.solve(squares.sum(axis=0), crossed.sum(axis=0))
    if len(pools) < 2:
        return slopes, np.full(count, np.nan)
    pairs = zip(squares.sum(axis=0) - squares, crossed.sum(axis=0) - crossed, strict=True)
    without = np.array([np.linalg.lstsq(left, right, rcond=None)[0] for left, right in pairs])
    return slopes, jackknife(without)
