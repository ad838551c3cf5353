"""Growth of the gain with the number of models."""

from __future__ import annotations

import pandas as pd

from analysis.claims._growth import size_pairs
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues


def gain_grows(candidates: pd.DataFrame, *, margin: float = 0.005) -> Finding:
    """Does the gain of a uniform soup over its mean member grow with the number of models?

    Gain at the largest size of a population minus gain at its smallest, each the mean over the subsets of a pool; t
    over pools that have both, populations fixed.
    """
    pools, warnings = size_pairs(candidates, "uniform_soup", neighbours=False)
    question = Question("gain of uniform_soup at the largest size minus at the smallest", "pool", 0.0, margin)
    values = pools.assign(value=pools["difference"])[["population", "pool_id", "value"]]
    return Finding(PoolValues(values, question, warnings), "above", "number")
