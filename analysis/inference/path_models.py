"""Models of a path between two networks: three straight pieces and their smooth rivals, compared by BIC.

BIC has McQuarrie's small-sample correction; a model of k parameters needs more than k + 2 weights. On noiseless curves
that are none of the models, a rival must come closer than pieces do: hence the smoothing spline.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from scipy.interpolate import make_smoothing_spline
from scipy.special import expit

MODELS = ("line", "quadratic", "cubic", "quartic", "logistic curve", "smoothing spline", "piecewise line")
LEAST = 9
"""Minimum number of weights: the correction of BIC divides by weights - parameters - 2."""

_POLYNOMIALS = (1, 2, 3, 4)  # degrees, in the order of MODELS
_LOGISTIC_PARAMETERS = 4  # level, height, place and width
_PIECES_PARAMETERS = 6  # level, three slopes and two breakpoints
_PIECES = np.array([[3], [2], [3]])  # minimum number of weights in each piece, including its breakpoints
_PLACES = np.linspace(-0.2, 1.2, 57)
_WIDTHS = np.geomspace(0.01, 1.0, 25)
_PENALTIES = np.geomspace(1e-9, 10.0, 81)
_BLOCK = 256  # paths that are fitted at once


def fit_models(weight: np.ndarray, loss: np.ndarray, resolution: float) -> tuple[np.ndarray, np.ndarray]:
    """BIC of each model on each path, (models, paths), and the two breakpoints of each path, (paths, 2).

    `loss` is (paths, weights); breakpoints lie on a grid of the given resolution and on the weights.
    """
    n = len(weight)
    # Differences below a millionth of the loss are rounding of float32 outputs: the BIC of an exact fit is bounded.
    floor = n * (1e-6 * np.abs(loss).max(axis=1)) ** 2 + np.finfo(float).tiny
    loss = loss - loss.mean(axis=1, keepdims=True)
    breaks, designs = _pieces(weight, resolution)
    rest, place = _search(designs, loss)
    found = [_bic(_search(_polynomial(weight, degree), loss)[0], floor, n, degree + 1) for degree in _POLYNOMIALS]
    found.append(_bic(_search(_logistic(weight), loss)[0], floor, n, _LOGISTIC_PARAMETERS))
    found.append(_spline_bic(weight, loss, floor))
    found.append(_bic(rest, floor, n, _PIECES_PARAMETERS))
    return np.stack(found), breaks[place]


def _bic(residual: np.ndarray, floor: np.ndarray, n: int, parameters: float) -> np.ndarray:
    """The corrected BIC of residual sums of squares, (paths,)."""
    penalty = parameters * math.log(n) * n / (n - parameters - 2)
    return np.asarray(n * np.log(np.maximum(residual, floor) / n) + penalty)


def _polynomial(weight: np.ndarray, degree: int) -> np.ndarray:
    """The orthonormal columns of a polynomial, (1, weights, degree + 1)."""
    return np.asarray(np.linalg.qr(np.vander(weight, degree + 1))[0][None])


def _logistic(weight: np.ndarray) -> np.ndarray:
    """The orthonormal columns of a level and a logistic step, for each place and width, (steps, weights, 2)."""
    place, width = (axis.reshape(-1, 1) for axis in np.meshgrid(_PLACES, _WIDTHS))
    step = expit((weight - place) / width)
    return np.asarray(np.linalg.qr(np.stack([np.ones_like(step), step], axis=2))[0])


def _spline_bic(weight: np.ndarray, loss: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """The smallest BIC of a cubic smoothing spline over its penalties; parameters are its degrees of freedom."""
    n = len(weight)
    found = np.full(len(loss), np.inf)
    for smoother in _smoothers(tuple(weight)):
        freedom = float(np.trace(smoother))
        if freedom < n - 2.5:
            rest = ((loss - loss @ smoother.T) ** 2).sum(axis=1)
            found = np.minimum(found, _bic(rest, floor, n, freedom))
    return found


@functools.lru_cache(maxsize=8)
def _smoothers(weight: tuple[float, ...]) -> list[np.ndarray]:
    """The matrices that map values at the weights to a smoothing spline's, one per penalty."""
    points = np.array(weight)
    return [make_smoothing_spline(points, np.eye(len(points)), lam=penalty)(points) for penalty in _PENALTIES]


def _pieces(weight: np.ndarray, resolution: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of breakpoints, and the orthonormal columns of a line bent at them."""
    grid = np.union1d((np.arange(1, round(1 / resolution)) * resolution).round(9), weight[1:-1])
    breaks = np.array(list(itertools.combinations(grid, 2)))
    first = breaks[:, :1]
    second = breaks[:, 1:]
    near = 1e-9
    between = (weight >= first - near) & (weight <= second + near)
    sizes = np.stack([(weight <= first + near).sum(1), between.sum(1), (weight >= second - near).sum(1)])
    breaks = breaks[(sizes >= _PIECES).all(axis=0)]
    bends = [np.maximum(weight - one, 0) for one in (breaks[:, :1], breaks[:, 1:])]
    straight = [np.broadcast_to(column, bends[0].shape) for column in (np.ones_like(weight), weight)]
    return breaks, np.linalg.qr(np.stack([*straight, *bends], axis=2))[0]


def _search(designs: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest residual sum of squares of each path over all designs, and the index of that design."""
    blocks = [_search_block(designs, loss[start : start + _BLOCK]) for start in range(0, len(loss), _BLOCK)]
    least, place = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return least, place


def _search_block(designs: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    explained = (np.swapaxes(designs, 1, 2) @ loss.T) ** 2
    residual = (loss**2).sum(axis=1) - explained.sum(axis=1)
    place = residual.argmin(axis=0)
    # The difference of two sums may fall below zero by rounding.
    return np.maximum(residual[place, np.arange(len(loss))], 0.0), place
