"""The soup against the ensemble of logits."""

from __future__ import annotations

import pandas as pd

from analysis.inference.finding import Finding
from analysis.rows.contrasts import contrast


def weights_or_logits(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.005
) -> Finding:
    """Is averaging weights less accurate than averaging logits?

    Accuracy of `uniform_soup` minus that of `logit_average` on the same subsets; t over pools, populations fixed.
    """
    return Finding(
        contrast(candidates, "uniform_soup", "logit_average", margin=margin, predictions=predictions), "below", "spaces"
    )
