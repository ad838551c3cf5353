"""How fast one magnified member comes to rule a merge: as its share in weights, or as its share in logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.inference.estimate import ROUNDING, Question, unit_mean
from analysis.statistics._scale import Measured, measured, scaled

CITES = ("student1908mean",)

RANGE = (-2.0, 6.0)
"""Logs to the base 2 of the exponents that are searched: from a quarter of a layer to 64 layers."""

_STEPS, _ROUNDS = 65, 3
"""Points of a search, and how often it narrows to the two intervals beside the best."""


def dominance(candidates: pd.DataFrame, *, depth: int = 0, margin: float | None = None) -> pd.DataFrame:
    """The exponent k by which a member times c rules a merge of N, c^k/(c^k + N - 1), per population, size and label.

    Averaged weights give it the share c/(c + N - 1), k = 1; logits of a network of L layers without biases
    c^L/(c^L + N - 1), k = L: it rules the ensemble long before it rules the soup. The accuracy lost at factors above 1,
    where the first member alone is multiplied (arms `first`), is fitted as an amount times the gain of that share over
    1/N, both by least squares, from the mean curve of each pool; t over pools on log2 k, so 0 is the share in weights.

    With a `depth` L: the root mean square misfit of k = L minus that of k = 1 too, in accuracy, against 0 and `margin`:
    above 0 where the share in weights describes the loss better. Pools without a loss to describe are left out; those
    whose best k is at an end of the search (1/4 and 64) are counted. Raises AnalysisError for a missing column,
    duplicated rows or a negative depth, NothingToDrawError where no member was magnified alone.
    """
    if depth < 0:
        raise AnalysisError("depth", f"{depth} is below 0", "it counts layers; 0 asks for the exponent alone")
    curves = [one for one in measured(scaled(candidates)) if _alone(one)]
    if not curves:
        raise NothingToDrawError("candidates", "no rows with the first member alone magnified, at factors above 1")
    return pd.DataFrame([row for one in curves for row in _rows(one, depth, margin)])


def _alone(one: Measured) -> bool:
    """Whether a curve is of one magnified member beside others, beyond 1."""
    first = str(one.side.key["arm"]).partition(",")[0] == "first"
    return first and one.side.name == "above 1" and one.side.key["n_members"] > 1


def gained(factors: np.ndarray, exponents: np.ndarray, n: int) -> np.ndarray:
    """The share c^k/(c^k + n - 1) beyond 1/n, from 0 at c = 1 to 1: (exponents, factors)."""
    # As a power below 1, which does not overflow: 1/(1 + (n - 1) c^-k).
    shares = 1 / (1 + (n - 1) * factors[None] ** -exponents[:, None])
    found: np.ndarray = (shares - 1 / n) / (1 - 1 / n)
    return found


def misfits(falls: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Root mean square of what is left of the falls (pools, factors) beside the best multiple of each of the shares.

    (pools, exponents).
    """
    amounts = falls @ shares.T / (shares**2).sum(axis=1)
    left = falls[:, None] - amounts[..., None] * shares[None]
    found: np.ndarray = np.sqrt((left**2).mean(axis=-1))
    return found


def exponents(falls: np.ndarray, factors: np.ndarray, n: int) -> np.ndarray:
    """log2 of the exponent whose share describes the falls of each pool best, (pools,)."""
    found = []
    for fall in falls:
        low, high = RANGE
        for _ in range(_ROUNDS):
            tried = np.linspace(low, high, _STEPS)
            best = int(misfits(fall[None], gained(factors, 2**tried, n)).argmin())
            low, high = tried[max(best - 1, 0)], tried[min(best + 1, _STEPS - 1)]
        found.append(tried[best])
    return np.array(found)


def _rows(one: Measured, depth: int, margin: float | None) -> list[dict[str, Any]]:
    """The rows of one curve."""
    size, factors = int(one.side.key["n_members"]), one.side.factors
    falls = one.falls[np.abs(one.falls).max(axis=1, initial=0.0) > ROUNDING] if len(factors) > 1 else one.falls[:0]
    lost = len(one.falls) - len(falls)
    told = [*one.told, *([f"{lost} pool{'s' * (lost > 1)} left out: no loss to describe"] if lost else [])]
    found = exponents(falls, factors, size)
    ends = int(np.isclose(np.abs(found - np.mean(RANGE)), np.ptp(RANGE) / 2).sum())
    beyond = [f"{ends} of {len(found)} pools at an end of the search"] if ends else []
    rows = [_row(one, "log2 exponent", found, Question("log2 of the exponent", null=0.0), [*told, *beyond])]
    if depth:
        both = misfits(falls, gained(factors, np.array([1.0, depth]), size))
        question = Question(f"misfit of c^{depth} minus that of c, accuracy", null=0.0, margin=margin)
        rows.append(_row(one, f"misfit of c^{depth} minus c", both[:, 1] - both[:, 0], question, told))
    return rows


def _row(one: Measured, quantity: str, values: np.ndarray, question: Question, told: Sequence[str]) -> dict[str, Any]:
    """One estimate over pools."""
    return {**one.head(quantity, math.nan), **asdict(unit_mean(values, question, told))}
