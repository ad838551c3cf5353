"""The soup against the average of features."""

from __future__ import annotations

import pandas as pd

from analysis.inference.finding import Finding
from analysis.rows.contrasts import contrast

FEATURES = "feature_average (head=average)"


def weights_or_features(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.005
) -> Finding:
    """Is averaging weights less accurate than averaging features?

    Accuracy of `uniform_soup` minus that of `feature_average` with the mean head on the same subsets; t over pools,
    populations fixed.
    """
    return Finding(
        contrast(candidates, "uniform_soup", FEATURES, margin=margin, predictions=predictions), "below", "spaces"
    )
