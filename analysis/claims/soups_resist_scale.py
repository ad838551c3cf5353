"""Sensitivity of merged and single networks to the magnitude of weights."""

from __future__ import annotations

import pandas as pd

from analysis.claims._scale import soup_loss
from analysis.inference.finding import Finding

MARGIN = "retention"


def soups_resist_scale(candidates: pd.DataFrame, *, margin: float = 0.05) -> Finding:
    """Do soups lose less of their accuracy above chance than their single members when all weights are multiplied?

    Mean retention lost over log factor, both sides of 1, of `uniform_soup` minus that of its members, all members
    multiplied; t over pools, populations fixed. Retention is accuracy above chance as a share of that without scaling;
    chance is the share of the largest class. Not asked where soup or members are not clearly above chance without
    scaling. The sides below and above 1 are also judged apart. Factors at which most outputs overflow, or both networks
    are at chance, are left out.
    """
    return soup_loss(candidates, "single", "its members", arm="all", margin=margin)
