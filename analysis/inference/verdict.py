"""Correction of p values for the number of tests in a family, and verdicts."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import LEVEL, equivalence_p, verdict_of
from sweep.core.text import did_you_mean

MOST_CLAIMS = 12
"""Largest family corrected by Holm; larger ones have little power (.22 at 40 tests)."""

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

    Both tests of a row, that it differs from zero and (TOST) that it lies within its margin, are corrected, each kind
    among its own: Holm, for at most 12 confirmatory claims, controls the probability of any false `different` at
    `alpha` and that of any false `equivalent`; bh, for exploration, their expected shares. A row with an empty verdict
    (no null value) is unchanged. Raises AnalysisError for a larger family under Holm.
    """
    if correction == "holm" and len(estimates) > MOST_CLAIMS:
        what = f"a family of {len(estimates)} claims; at most {MOST_CLAIMS} can be confirmed at once"
        raise AnalysisError("claims", what, "state fewer claims, or explore with `bh`")
    close = [_closeness(row) for row in estimates.itertuples()]
    p = adjust_p_values(estimates["p"].to_numpy(np.float64, na_value=np.nan), correction)
    near = adjust_p_values(np.array(close, dtype=np.float64), correction)
    families = zip(p, near, estimates["verdict"], strict=True)
    verdicts = [asked and verdict_of(_known(one), _known(other), alpha) for one, other, asked in families]
    return estimates.assign(p_adjusted=p, verdict=pd.Series(verdicts, estimates.index, dtype=str))


def _closeness(row: Any) -> float:
    """The p of equivalence of one estimate; NaN without margin or spread."""
    margin = _known(row.margin)
    p = None if margin is None else equivalence_p(row.estimate, row.se, row.df, margin)
    return math.nan if p is None else p


def _known(value: Any) -> float | None:
    """The value, or None for a missing one."""
    return None if pd.isna(value) else float(value)
