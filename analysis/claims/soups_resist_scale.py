"""Sensitivity of merged and single networks to the magnitude of weights."""

from __future__ import annotations

import pandas as pd

from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues
from analysis.statistics._scale import area_per_pool


def soups_resist_scale(candidates: pd.DataFrame, *, margin: float = 0.005) -> Finding:
    """Do soups lose less accuracy than their single members when all weights are multiplied?

    Mean accuracy lost over log factor, both sides of 1, of `uniform_soup` minus that of its members, all members
    multiplied; t over pools, populations fixed. Factors at which most outputs overflow are left out.
    """
    pools, warnings = area_per_pool(candidates, "uniform_soup", "single", arm="all")
    question = Question("accuracy lost over log factor: uniform_soup minus its members", "pool", 0.0, margin)
    return Finding(PoolValues(pools, question, warnings), "below", "scale")
