"""First-order equality of soup and ensemble."""

from __future__ import annotations

import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.finding import Finding
from analysis.rows.contrasts import contrast


def soup_is_ensemble(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.005
) -> Finding:
    """Is a soup of models from one start as accurate as their ensemble, as it is to first order in their distance?

    Accuracy of `uniform_soup` minus that of `logit_average` on the same subsets, in populations with a shared or
    pretrained start; equivalent by two one-sided tests at the margin, over pools.
    """
    rows = candidates[candidates["start"].isin(["shared", "pretrained"])]
    if rows.empty:
        raise NothingToDrawError("candidates", "no population has a shared or pretrained start")
    return Finding(
        contrast(rows, "uniform_soup", "logit_average", margin=margin, predictions=predictions), "zero", "spaces"
    )
