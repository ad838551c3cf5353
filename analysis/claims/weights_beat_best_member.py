"""The soup against the best of its members."""

from __future__ import annotations

import pandas as pd

from analysis.inference.finding import Finding
from analysis.rows.contrasts import contrast
from analysis.rows.select import BEST_MEMBER


def weights_beat_best_member(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.005
) -> Finding:
    """Is a uniform soup more accurate than the best of the models in it?

    Accuracy of `uniform_soup` minus that of `best_member`, the member with the highest validation accuracy, on the same
    subsets; t over pools, populations fixed. This baseline costs no merging; the mean member is easier to beat.
    """
    return Finding(
        contrast(candidates, "uniform_soup", BEST_MEMBER, margin=margin, predictions=predictions), "above", "spaces"
    )
