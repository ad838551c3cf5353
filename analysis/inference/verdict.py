"""Correction of p values for the number of tests in a family, and verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import LEVEL, beyond_margin_p, equivalence_p, verdict_of
from sweep.core.text import did_you_mean

MOST_CLAIMS = 12
"""Largest family that Holm corrects without a warning; larger ones have little power (.22 at 40 tests)."""

Correction = Literal["none", "holm", "bh"]


def adjust_p_values(p_values: np.ndarray, correction: Correction) -> np.ndarray:
    """p values corrected for their number; NaN stays and is not counted.

    `holm` controls the probability of any false finding (Holm 1979), `bh` the expected share of false findings
    (Benjamini and Hochberg 1995). Raises AnalysisError for another name.
    """
    if correction not in get_args(Correction):
        raise AnalysisError("correction", f"no `{correction}`", did_you_mean(str(correction), get_args(Correction)))
    found = np.asarray(p_values, dtype=np.float64).copy()
    known = ~np.isnan(found)
    if correction == "none" or not known.any():
        return found
    values = found[known]
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    n = len(values)
    if correction == "holm":
        ranked = np.maximum.accumulate(ranked * np.arange(n, 0, -1))
    else:
        ranked = np.minimum.accumulate((ranked * n / np.arange(1, n + 1))[::-1])[::-1]
    back = np.empty(n)
    back[order] = np.minimum(ranked, 1.0)
    found[known] = back
    return found


def adjust_and_judge(estimates: pd.DataFrame, correction: Correction, *, alpha: float = 1 - LEVEL) -> pd.DataFrame:
    """The estimates with `p_adjusted` and `verdict` as members of one family: all rows of the frame.

    The tests of a row (that it differs from zero, that it lies within its margin, that it lies beyond it) are
    corrected, each kind among its own: Holm, for confirmatory claims, controls the probability of any false verdict of
    a kind at `alpha`; bh, for exploration, its expected share. A row with an empty verdict (no null value) keeps it.
    Under Holm, the rows of a family of more than 12 have a warning.
    """
    p = adjust_p_values(estimates["p"].to_numpy(np.float64, na_value=np.nan), correction)
    within, beyond = (adjust_p_values(_margin_p(estimates, test), correction) for test in _MARGIN_TESTS)
    rows = zip(estimates["verdict"], p, within, beyond, strict=True)
    verdicts = [asked and verdict_of_adjusted(*p_values, alpha=alpha) for asked, *p_values in rows]
    found = estimates.assign(p_adjusted=p, verdict=pd.Series(verdicts, estimates.index, dtype=str))
    text = size_warning(len(found))
    if correction == "holm" and text:
        warnings = [(*row, text) for row in found["warnings"]]
        found = found.assign(warnings=pd.Series(warnings, found.index, dtype=object))
    return found


def verdict_of_adjusted(zero: float, within: float, beyond: float, *, alpha: float = 1 - LEVEL) -> str:
    """The verdict from p values that are corrected for their family; NaN is a missing one."""
    return verdict_of(_known(zero), _known(within), _known(beyond), alpha)


def size_warning(claims: int) -> str:
    """The warning of a family of this size, empty for a usual one."""
    too_many = claims > MOST_CLAIMS
    return f"corrected as one of {claims}: there is little power beyond {MOST_CLAIMS}" if too_many else ""


_MARGIN_TESTS = (equivalence_p, beyond_margin_p)


def _margin_p(estimates: pd.DataFrame, test: Callable[..., float | None]) -> np.ndarray:
    """The p of one test against the margin of each estimate; NaN without margin or spread.

    Without spread, an exact p of equivalence may be known.
    """
    rows = [(row, _known(row.margin)) for row in estimates.itertuples()]
    found = [None if margin is None else test(row.estimate, row.se, row.df, margin) for row, margin in rows]
    computed = np.array([math.nan if p is None else p for p in found], dtype=np.float64)
    if test is not equivalence_p or "p_equivalent" not in estimates:
        return computed
    known = estimates["p_equivalent"].to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isnan(known), computed, known)


def _known(value: Any) -> float | None:
    """The value, or None for a missing one."""
    return None if pd.isna(value) else float(value)
