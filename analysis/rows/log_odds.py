"""Accuracy as log-odds, a scale without a ceiling."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.rows.select import require


def with_log_odds(candidates: pd.DataFrame) -> pd.DataFrame:
    """The rows with log((right + 1/2) / (wrong + 1/2)) in the place of `accuracy` (Haldane 1956).

    The halves keep it finite where no example is wrong. Raises AnalysisError where the number of examples is missing.
    """
    require(candidates, ["accuracy", "n_examples"])
    n = candidates["n_examples"].to_numpy(np.float64, na_value=np.nan)
    accuracy = candidates["accuracy"].to_numpy(np.float64, na_value=np.nan)
    if (np.isnan(n) & np.isfinite(accuracy)).any():
        raise AnalysisError("rows", "no number of examples for log-odds", "evaluate the candidates again")
    right = np.round(accuracy * n)
    return candidates.assign(accuracy=np.log((right + 0.5) / (n - right + 0.5)))
