"""Variance components of merges by moments: pool, members, and the subset itself.

y = mean of its size + pool + Σ_{i in S} a_i / N + e, so that for two subsets of one pool
Cov(y_S, y_T) = s²_pool + |S ∩ T| / (N_S N_T) s²_member + [S = T] s²_subset. Products of residuals are equated
to their expectations, which account for the estimated means of the sizes (Rao's MINQUE(0), 1971); without this the
component of pools is too small, .31 for .36 at 12 pools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
COMPONENTS = ("pool", "member", "subset")
CROSSED = ("pool", "init", "order", "residual")
_FLAT = 1e-9


@dataclass(frozen=True)
class Moments:
    """Sums over the subsets of a pool, or of several; the axes are components (3 or fewer) and sizes of subsets.

    With X the (subsets, sizes) indicators of size and Z_k the (subsets, subsets) kernel of component k: `counts` X'1,
    `sums` X'y, `squares` y'Z_k y, `crossed` X'Z_k y, `sizes` X'Z_k X, `products` tr(Z_k Z_l), `pairs` X'Z_k Z_l X.
    """

    counts: Array
    sums: Array
    squares: Array
    crossed: Array
    sizes: Array
    products: Array
    pairs: Array

    def without(self) -> Moments:
        """The sums over all pools but one, for each pool; the first axis is that of the pools."""
        return Moments(*(getattr(self, one.name).sum(axis=0) - getattr(self, one.name) for one in fields(self)))

    def total(self) -> Moments:
        """The sums over all pools, the first axis."""
        return Moments(*(getattr(self, one.name).sum(axis=0) for one in fields(self)))


def stacked(pools: Sequence[Moments]) -> Moments:
    """The sums of several pools, with an axis of pools in front."""
    return Moments(*(np.stack([getattr(pool, one.name) for pool in pools]) for one in fields(Moments)))


def moments(shares: Array, size: NDArray[np.intp], values: Array, n_sizes: int) -> Moments:
    """The sums of one pool.

    `shares` (subsets, members) are 1 / N if a member is in the subset, else 0; `size` (subsets,) is the index of a
    subset's size among `n_sizes`; `values` (subsets,) should be centred, to keep precision.
    """
    x = (size[:, None] == np.arange(n_sizes)).astype(np.float64)
    roots = [np.ones((len(values), 1)), shares]
    # Z_k X and Z_k y; the kernel of subsets is the identity.
    on_x = np.stack([*(root @ (root.T @ x) for root in roots), x])
    on_y = np.stack([*(root @ (root.T @ values) for root in roots), values])
    overlap = shares.T @ shares
    touched = shares.sum(axis=0)
    n = float(len(values))
    both = float(touched @ touched)
    alone = float(np.trace(overlap))
    products = np.array([[n * n, both, n], [both, float((overlap**2).sum()), alone], [n, alone, n]])
    return Moments(
        x.sum(axis=0),
        x.T @ values,
        on_y @ values,
        on_y @ x,
        np.einsum("sa,ksb->kab", x, on_x),
        products,
        np.einsum("ksa,lsb->klab", on_x, on_x),
    )


def estimates(sums: Moments, n_components: int = 3) -> Array:
    """(..., components) from sums over pools: the first of the three; NaN if the subsets do not determine a component.

    One pool has no component of pools; a component of members needs subsets that share some but not all members.
    """
    own = slice(n_components)
    seen = sums.counts > 0
    inverse = np.where(seen, 1 / np.where(seen, sums.counts, 1.0), 0.0)
    means = inverse * sums.sums
    left = sums.squares - 2 * np.einsum("...ka,...a->...k", sums.crossed, means)
    left = left + np.einsum("...a,...kab,...b->...k", means, sums.sizes, means)
    scaled = inverse[..., None, :, None] * sums.sizes
    expected = sums.products - 2 * np.einsum("...a,...klaa->...kl", inverse, sums.pairs)
    expected = expected + np.einsum("...kab,...lba->...kl", scaled, scaled)
    scale = np.sqrt(np.einsum("...kk->...k", sums.products))[..., own]
    expected = expected[..., own, own] / (scale[..., :, None] * scale[..., None, :])
    return np.asarray(_solved(expected, left[..., own] / scale) / scale)


def _solved(matrix: Array, right: Array) -> Array:
    """The solutions of symmetric equations; NaN in undetermined coordinates."""
    values, vectors = np.linalg.eigh((matrix + np.swapaxes(matrix, -1, -2)) / 2)
    kept = values > _FLAT
    free = ((np.abs(vectors) > np.sqrt(_FLAT)) & ~kept[..., None, :]).any(axis=-1)
    along = np.einsum("...ij,...i->...j", vectors, right) * np.where(kept, 1 / np.where(kept, values, 1.0), 0.0)
    return np.asarray(np.where(free, np.nan, np.einsum("...ij,...j->...i", vectors, along)))


def crossed(tables: Sequence[Array]) -> Array:
    """Components of pool, initial weights, data order and residual, from one (inits, orders) table of values per pool.

    Balanced two-way moments inside each pool, averaged over pools; the component of pools is NaN for one pool.
    """
    means = []
    inside = []
    noise = []
    for table in tables:
        a, b = table.shape
        mean = table.mean()
        row = table.mean(axis=1)
        column = table.mean(axis=0)
        rest = ((table - row[:, None] - column + mean) ** 2).sum() / ((a - 1) * (b - 1))
        init = row.var(ddof=1) - rest / b
        order = column.var(ddof=1) - rest / a
        means.append(mean)
        inside.append([init, order, rest])
        noise.append(init / a + order / b + rest / (a * b))
    pool = np.var(means, ddof=1) - np.mean(noise) if len(means) > 1 else np.nan
    return np.array([pool, *np.mean(inside, axis=0)])


def jackknife(without: Array) -> Array:
    """Standard errors from the estimates that each leave one pool out, (pools, ...)."""
    n = len(without)
    return np.asarray(np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0)))
