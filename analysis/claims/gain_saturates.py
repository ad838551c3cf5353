"""Saturation of the gain with the number of models."""

from __future__ import annotations

import pandas as pd

from analysis.claims._growth import size_pairs
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues

MARGIN = "accuracy_per_model"


def gain_saturates(candidates: pd.DataFrame, *, margin: float = 0.001) -> Finding:
    """Does one more model at the largest size add less than the margin?

    Gain of `uniform_soup` at the largest size of a population minus gain at the next smaller one, per additional model;
    equivalent to zero by two one-sided tests at the margin, over pools that have both.
    """
    pools, warnings = size_pairs(candidates, "uniform_soup", neighbours=True)
    steps = pools["difference"] / (pools["large"] - pools["small"])
    question = Question("gain of uniform_soup per model more at the largest size", "pool", 0.0, margin)
    values = pools.assign(value=steps)[["population", "pool_id", "value"]]
    return Finding(PoolValues(values, question, warnings), "zero", "number")
