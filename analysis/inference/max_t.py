"""Stepwise max-t: p values of several correlated effects over the same pools, corrected by flipping signs of pools."""

from __future__ import annotations

import math

import numpy as np

from analysis.inference.estimate import LEVEL, ROUNDING

FEWEST = 8
"""Pools below which sign flips are too few to compete with Holm: with 7 the smallest p is .016."""
MOST_EXACT = 14
"""Pools up to which all choices of signs are enumerated; beyond, 2^13 are drawn from a fixed seed."""
_SEED = 20050109


def sign_choices(pools: int) -> np.ndarray:
    """Signs of pools, (choices, pools), the first all +1; opposite choices give equal |t| and count once."""
    if pools <= MOST_EXACT:
        bits = (np.arange(2 ** (pools - 1))[:, None] >> np.arange(pools)) & 1
        return 1.0 - 2.0 * bits
    drawn = np.random.default_rng(_SEED).integers(0, 2, (2 ** (MOST_EXACT - 1), pools))
    drawn[0] = 0
    return 1.0 - 2.0 * drawn


def flipped_t(values: np.ndarray, populations: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """|t| of every effect under every choice of signs, (choices, effects).

    `values` are (pools, effects), NaN where an effect has no value of a pool; `populations` has the number of the
    population of each pool; `shares`, (populations, effects), weigh the means. The t statistic is the stratified one.
    """
    signs = sign_choices(len(values))
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    top = np.zeros((len(signs), values.shape[1]))
    variance = np.zeros_like(top)
    for population in range(len(shares)):
        mine = populations == population
        count = known[mine].sum(axis=0)
        mean = signs[:, mine] @ filled[mine] / np.maximum(count, 1)
        spread = np.maximum((filled[mine] ** 2).sum(axis=0) - count * mean**2, 0.0)
        top += shares[population] * mean
        variance += shares[population] ** 2 * spread / np.maximum(count * (count - 1), 1)
    return np.asarray(np.abs(top) / np.sqrt(np.maximum(variance, (ROUNDING * np.nanmax(np.abs(values))) ** 2)))


def stepwise_p(t: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """p values of the effects with these |t|, corrected for their number as by Romano and Wolf (2005).

    Each is compared with the maximum, over itself and the effects with smaller |t|, under every choice of signs, and is
    at least that of the effect before it. The first choice, the data as they are, counts as reaching every t.
    """
    order = np.argsort(-t, kind="stable")
    maxima = np.maximum.accumulate(flipped[:, order[::-1]], axis=1)[:, ::-1]
    reached = maxima >= t[order] * (1 - 1e-9)
    reached[0] = True
    found = np.empty(len(t))
    found[order] = np.maximum.accumulate(reached.mean(axis=0))
    return found


def critical_t(flipped: np.ndarray, alpha: float = 1 - LEVEL) -> float:
    """The half width, in standard errors, of intervals that all hold together with probability 1 - alpha.

    Infinite if the choices of signs are too few.
    """
    maxima = np.sort(flipped.max(axis=1))
    place = math.ceil((1 - alpha) * len(maxima)) - 1
    return float(maxima[place]) if alpha * len(maxima) >= 1 else math.inf
