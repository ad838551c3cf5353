"""One magnified member in a soup and in an ensemble."""

from __future__ import annotations

import pandas as pd

from analysis.claims._scale import soup_loss
from analysis.inference.finding import Finding

MARGIN = "retention"


def soups_resist_an_outlier(candidates: pd.DataFrame, *, margin: float = 0.05) -> Finding:
    """Does a soup lose less of its accuracy above chance than the ensemble of logits when one member is multiplied?

    Mean retention lost over log factor, both sides of 1, of `uniform_soup` minus that of `logit_average` on the same
    subsets, the first member multiplied; t over pools, populations fixed. Retention is accuracy above chance as a
    share of that without scaling. Not asked where one of the two is not clearly above chance without scaling. The sides
    below and above 1 are also judged apart; factors at which both are at chance are left out. A member
    times c has the share c/(c+N-1) in a soup and about c^L/(c^L+N-1) in the logits of L layers: dominance, not
    regularisation; the statistic `dominance` fits the exponent.
    """
    return soup_loss(candidates, "logit_average", "logit_average", arm="first", margin=margin)
