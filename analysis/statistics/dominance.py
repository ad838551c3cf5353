"""Growth of the influence of one magnified member on a merge: like its share in weights, or in logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.inference.estimate import ROUNDING, Question, unit_mean
from analysis.statistics._scale import SideResult, scaled_rows, side_results
from sweep.core.text import format_count

CITES = ("student1908mean",)

RANGE = (-2.0, 6.0)
"""Range of log2 of the exponents that are searched: from a quarter of a layer to 64 layers."""

_STEPS = 65
_ROUNDS = 3
"""The search evaluates `_STEPS` points, then narrows to the two intervals beside the best, `_ROUNDS` times."""


def dominance(
    candidates: pd.DataFrame,
    *,
    depth: int = 0,
    margin: float | None = None,
    retention_margin: float | None = None,
) -> pd.DataFrame:
    """The exponent k in the share c^k/(c^k + N - 1) of a member times c in a merge of N, per population, size, label.

    In averaged weights the member has the share c/(c + N - 1), k = 1; in the logits of a network of L layers without
    biases c^L/(c^L + N - 1), k = L: it dominates the ensemble long before the soup. The drop in accuracy at factors
    above 1, if the first member alone is multiplied (arms `first`), is fitted to the mean curve of each pool as an
    amplitude times the excess of that share over 1/N, by least squares. `log2 exponent` is the mean of log2 k with
    Student's t over pools; 0 is the share in weights.

    With a `depth` L a second row has the root mean square error of k = L minus that of k = 1, in accuracy, tested
    against 0 with `margin`, and a third row in retention, accuracy above chance as a share of that at factor 1, with
    `retention_margin`; above 0, the share in weights fits better. Pools without a drop are left out; pools whose best
    k is at an end of the search (1/4 and 64) are counted. A merge that is not clearly above chance at factor 1 (see
    `scale_sensitivity`) has nothing that a member could ruin: its rows have no estimate, and a warning.

    Raises AnalysisError for a missing column, duplicated rows or a negative depth, NothingToDrawError if no member was
    magnified alone.
    """
    if depth < 0:
        raise AnalysisError("depth", f"{depth} is below 0", "the number of layers; 0 estimates the exponent only")
    curves = [one for one in side_results(scaled_rows(candidates)) if _is_one_magnified_member(one)]
    if not curves:
        raise NothingToDrawError("candidates", "no rows with the first member alone magnified, at factors above 1")
    return pd.DataFrame([row for one in curves for row in _rows(one, depth, margin, retention_margin)])


def _is_one_magnified_member(one: SideResult) -> bool:
    """Whether a curve is of one magnified member among others, at factors above 1."""
    first = str(one.side.key["arm"]).partition(",")[0] == "first"
    return first and one.side.name == "above 1" and one.side.key["n_members"] > 1


def share_gain(factors: np.ndarray, exponents: np.ndarray, n: int) -> np.ndarray:
    """The excess of the share c^k/(c^k + n - 1) over 1/n, scaled from 0 at c = 1 to 1: (exponents, factors)."""
    # As a power below 1, which does not overflow: 1/(1 + (n - 1) c^-k).
    shares = 1 / (1 + (n - 1) * factors[None] ** -exponents[:, None])
    found: np.ndarray = (shares - 1 / n) / (1 - 1 / n)
    return found


def misfits(accuracy_drops: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Root mean square error of the best multiple of each share to the drops (pools, factors): (pools, exponents)."""
    amounts = accuracy_drops @ shares.T / (shares**2).sum(axis=1)
    left = accuracy_drops[:, None] - amounts[..., None] * shares[None]
    found: np.ndarray = np.sqrt((left**2).mean(axis=-1))
    return found


def best_exponents(accuracy_drops: np.ndarray, factors: np.ndarray, n: int) -> np.ndarray:
    """log2 of the exponent whose share fits the accuracy drops of each pool best, (pools,)."""
    found = []
    for drops in accuracy_drops:
        low, high = RANGE
        for _ in range(_ROUNDS):
            tried = np.linspace(low, high, _STEPS)
            best = int(misfits(drops[None], share_gain(factors, 2**tried, n)).argmin())
            low = tried[max(best - 1, 0)]
            high = tried[min(best + 1, _STEPS - 1)]
        found.append(tried[best])
    return np.array(found)


def _rows(one: SideResult, depth: int, margin: float | None, retention_margin: float | None) -> list[dict[str, Any]]:
    """The rows of one curve."""
    size = int(one.side.key["n_members"])
    factors = one.side.factors
    is_used = _is_pool_with_loss(one)
    n_flat = 0 if one.is_at_chance else int((~is_used).sum())
    flat = [f"{format_count(n_flat, 'pool')} left out: no loss to describe"] if n_flat else []
    warnings = [*([one.problem] if one.problem else []), *one.warnings, *flat]
    found = best_exponents(one.accuracy_drops[is_used], factors, size)
    ends = int(np.isclose(np.abs(found - np.mean(RANGE)), np.ptp(RANGE) / 2).sum())
    beyond = [f"{ends} of {len(found)} pools at an end of the search"] if ends else []
    rows = [_row(one, "log2 exponent", found, Question("log2 of the exponent", null=0.0), [*warnings, *beyond])]
    if not depth:
        return rows
    shares = share_gain(factors, np.array([1.0, depth]), size)
    accuracy = misfits(one.accuracy_drops[is_used], shares)
    retention = misfits(one.retention_drops[is_used] if not one.problem else np.zeros((0, len(factors))), shares)
    for noun, both, own in (("accuracy", accuracy, margin), ("retention", retention, retention_margin)):
        question = Question(f"misfit of c^{depth} minus that of c, {noun}", null=0.0, margin=own)
        quantity = f"misfit of c^{depth} minus c" + (", retention" if noun == "retention" else "")
        rows.append(_row(one, quantity, both[:, 1] - both[:, 0], question, warnings))
    return rows


def _is_pool_with_loss(one: SideResult) -> np.ndarray:
    """Mask of the pools whose accuracy changes with the factor, (pools,); none if the merge is at chance."""
    if one.is_at_chance or len(one.side.factors) < 2:
        return np.zeros(len(one.pools), bool)
    found: np.ndarray = np.abs(one.accuracy_drops).max(axis=1, initial=0.0) > ROUNDING
    return found


def _row(
    one: SideResult, quantity: str, values: np.ndarray, question: Question, warnings: Sequence[str]
) -> dict[str, Any]:
    """One estimate over pools."""
    return {**one.columns(quantity, math.nan), **asdict(unit_mean(values, question, warnings))}
