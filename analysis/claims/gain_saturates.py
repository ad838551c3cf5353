"""Saturation of the gain with the number of models."""

from __future__ import annotations

import pandas as pd

from analysis.claims._growth import by_size
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues

MARGIN = "accuracy_per_model"


def gain_saturates(candidates: pd.DataFrame, *, margin: float = 0.001) -> Finding:
    """Does one more model at the largest size add less than the margin?

    Gain of `uniform_soup` at the largest size minus gain at the next smaller one, per additional model; equivalent to
    zero by two one-sided tests at the margin, over pools.
    """
    sizes, warnings = by_size(candidates, "uniform_soup")
    groups = sizes.groupby(["population", "pool_id"], sort=True)
    steps = groups["value"].agg(lambda one: one.iloc[-1] - one.iloc[-2])
    pools = steps / groups["n_members"].agg(lambda one: one.iloc[-1] - one.iloc[-2])
    question = Question("gain of uniform_soup per model more at the largest size", "pool", 0.0, margin)
    return Finding(PoolValues(pools.rename("value").reset_index(), question, warnings), "zero", "number")
