"""Growth of the gain with the number of models."""

from __future__ import annotations

import pandas as pd

from analysis.claims._growth import Growth
from analysis.inference.finding import Finding


def gain_grows(candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.005) -> Finding:
    """Does the gain of a uniform soup over its mean member grow with the number of models?

    Gain at the largest size of a population minus gain at its smallest, each the mean over the subsets of a pool; t
    over pools that have both, populations fixed.
    """
    estimand = "gain of uniform_soup at the largest size minus at the smallest"
    growth = Growth("uniform_soup", estimand, neighbours=False, margin=margin)
    return Finding(growth.measure(candidates, predictions), "above", "number")
