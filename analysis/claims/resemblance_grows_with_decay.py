"""Dose and response: weight decay and the similarity of templates to class means."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.claims._resemblance import FAMILY, per_pool
from analysis.core.errors import NothingToDrawError
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues

MARGIN = "slope"


def resemblance_grows_with_decay(templates: pd.DataFrame, *, margin: float = 0.05) -> Finding:
    """Do templates resemble the mean images of their classes the more, the stronger the weight decay?

    Slope of T against log10 of the weight decay (above 0) by least squares, of members trained on true labels without
    mixup; t over pools, trainings fixed. A positive slope means that weight decay explains the resemblance.
    """
    pools = per_pool(templates)
    plain = pools[(pools["labels"] == "true") & (pools["mixup"] == 0) & (pools["weight_decay"] > 0)]
    shares: dict[str, float] = {}
    doses = plain.drop_duplicates("population")
    families = [own for _, own in doses.groupby(FAMILY, sort=True) if own["weight_decay"].nunique() > 1]
    for own in families:
        apart = np.log10(own["weight_decay"].to_numpy(float))
        apart -= apart.mean()
        shares |= dict(zip(own["population"], apart / (apart @ apart) / len(families), strict=True))
    if not shares:
        raise NothingToDrawError("templates", "no two weight decays above 0")
    question = Question("slope of T on log10 of weight decay", "pool", 0.0, margin)
    return Finding(PoolValues(plain, question, shares=shares), "above", "patterns", 100.0, "hundredths of T per decade")
