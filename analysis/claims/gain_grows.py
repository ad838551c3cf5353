"""Growth of the gain with the number of models."""

from __future__ import annotations

import pandas as pd

from analysis.claims._growth import by_size
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues


def gain_grows(candidates: pd.DataFrame, *, margin: float = 0.005) -> Finding:
    """Does the gain of a uniform soup over its mean member grow with the number of models?

    Gain at the largest size minus gain at the smallest, each the mean over the subsets of a pool; t over pools,
    populations fixed.
    """
    sizes, warnings = by_size(candidates, "uniform_soup")
    pools = sizes.groupby(["population", "pool_id"], sort=True)["value"].agg(lambda one: one.iloc[-1] - one.iloc[0])
    question = Question("gain of uniform_soup at the largest size minus at the smallest", "pool", 0.0, margin)
    return Finding(PoolValues(pools.reset_index(), question, warnings), "above", "number")
