"""Bayesian hierarchical model of the effects of several cells, by numerical integration on a grid.

Effect of a cell d_c ~ N(m, t²), its estimate ~ d_c + se_c T(df_c): Student's t is the likelihood of a mean whose
variance has the prior 1/s² (Corani and Benavoli 2015; hierarchical over data sets: Corani et al. 2017). Priors: m flat,
t half-Cauchy (Gelman 2006). Own code: the library of the authors needs a compiler at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr

Array = NDArray[np.float64]

SPREADS = 60
CENTRES = 91
MIXTURE = 16


@dataclass(frozen=True)
class Posterior:
    """The posterior on a grid: `weights` of centres m and `spreads` t, all of shape (spreads, centres).

    `width` is the standard deviation of m inside its part of the grid.
    """

    centres: Array
    spreads: Array
    width: Array
    weights: Array

    def below(self, value: float, *, new_cell: bool = False) -> float:
        """The probability that the mean over cells, or the effect of a new cell, is below a value."""
        scale = np.hypot(self.width, self.spreads) if new_cell else self.width
        return float((self.weights * ndtr((value - self.centres) / scale)).sum())

    def quantile(self, share: float, *, new_cell: bool = False) -> float:
        """The value below which the mean over cells, or the effect of a new cell, is with this probability."""
        step = float(self.spreads.min() + np.ptp(self.centres[0]))
        middle = float((self.weights * self.centres).sum())
        ends = [middle - step, middle + step]
        while self.below(ends[0], new_cell=new_cell) > share or self.below(ends[1], new_cell=new_cell) < share:
            step *= 2
            ends = [middle - step, middle + step]
        return float(brentq(lambda at: self.below(at, new_cell=new_cell) - share, *ends, xtol=1e-12, rtol=1e-10))


def cell_posterior(means: Array, errors: Array, df: Array, between: float) -> Posterior:
    """The posterior of the mean over cells and of their spread, from two or more estimates with their errors and df.

    `between` is the scale of the half-Cauchy prior of the spread between cells, in the unit of the estimates.
    """
    extent = float(np.ptp(means) + errors.max() + between)
    spreads = np.geomspace(1e-3 * min(between, float(errors.min())), 300 * extent, SPREADS)[:, None]
    place = np.linspace(-5, 5, CENTRES)[None, :]
    # Estimates that are precise weigh more, the less the more the cells differ.
    precision = 1 / (spreads[..., None] ** 2 + errors**2)
    middle = (precision * means).sum(-1) / precision.sum(-1)
    scale = 1 / np.sqrt(precision.sum(-1))
    centres = middle + scale * np.sinh(place)
    step = scale * np.cosh(place) * (place[0, 1] - place[0, 0])
    log_likelihood = _log_likelihood(centres, spreads, means, errors, df)
    prior = spreads / (spreads**2 + between**2)  # times the spread: equal steps of its logarithm
    weights = np.exp(log_likelihood - log_likelihood.max()) * step * prior
    return Posterior(centres, np.broadcast_to(spreads, centres.shape), step / np.sqrt(12), weights / weights.sum())


def _log_likelihood(centres: Array, spreads: Array, means: Array, errors: Array, df: Array) -> Array:
    """The log likelihood of all cells, (spreads, centres), with the effects of the cells integrated out.

    Student's t is a mixture of normals with variance se² df / chi²; these are averaged by Gauss-Legendre quadrature.
    """
    nodes, shares = np.polynomial.legendre.leggauss(MIXTURE)
    total = np.zeros(np.broadcast_shapes(centres.shape, spreads.shape))
    for mean, error, freedom in zip(means, errors, df, strict=True):
        scaled = freedom / chdtri(freedom, (1 - nodes) / 2)
        variance = spreads[..., None] ** 2 + error**2 * scaled
        square = (mean - centres[..., None]) ** 2
        normal = np.exp(-square / (2 * variance)) / np.sqrt(variance)
        total += np.log(normal @ (shares / 2) + 1e-300)
    return total
