"""One magnified member in a soup and in an ensemble."""

from __future__ import annotations

import pandas as pd

from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues
from analysis.statistics._scale import area_per_pool


def soups_resist_an_outlier(candidates: pd.DataFrame, *, margin: float = 0.005) -> Finding:
    """Does a soup lose less accuracy than the ensemble of logits when only the first member is multiplied?

    Mean accuracy lost over log factor, both sides of 1, of `uniform_soup` minus that of `logit_average` on the same
    subsets; t over pools, populations fixed. A member times c has the share c/(c+N-1) in a soup and about
    c^L/(c^L+N-1) in the logits of L layers: dominance, not regularisation; the statistic `dominance` fits the exponent.
    """
    pools, warnings = area_per_pool(candidates, "uniform_soup", "logit_average", arm="first")
    question = Question("accuracy lost over log factor: uniform_soup minus logit_average", "pool", 0.0, margin)
    return Finding(PoolValues(pools, question, warnings), "below", "scale")
