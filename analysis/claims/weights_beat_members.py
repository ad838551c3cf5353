"""The soup against its members."""

from __future__ import annotations

import pandas as pd

from analysis.inference.finding import Finding
from analysis.rows.contrasts import contrast
from analysis.rows.select import MEAN_MEMBER


def weights_beat_members(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.005
) -> Finding:
    """Is a uniform soup more accurate than the mean of the models in it?

    Accuracy of `uniform_soup` minus that of its mean member on the same subsets; t over pools, populations fixed.
    """
    return Finding(
        contrast(candidates, "uniform_soup", MEAN_MEMBER, margin=margin, predictions=predictions), "above", "spaces"
    )
