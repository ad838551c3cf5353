"""Saturation of the gain with the number of models."""

from __future__ import annotations

import pandas as pd

from analysis.claims._growth import Growth
from analysis.inference.finding import Finding

MARGIN = "accuracy_per_model"


def gain_saturates(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.001
) -> Finding:
    """Does one more model at the largest size change accuracy by less than the margin?

    Gain of `uniform_soup` at the largest size of a population minus gain at the next smaller one, per additional model;
    equivalent to zero by two one-sided tests at the margin, over pools that have both.
    """
    estimand = "gain of uniform_soup per model more at the largest size"
    growth = Growth("uniform_soup", estimand, neighbours=True, margin=margin)
    return Finding(growth.measure(candidates, predictions), "zero", "number", unit="points per model")
