"""Dose and response: weight decay and the similarity of templates to class means."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.claims._resemblance import FAMILY, per_pool
from analysis.core.errors import NothingToDrawError
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues

MARGIN = "slope"
CEILING = 0.97
"""The share of its largest value from which T can hardly grow."""


def resemblance_grows_with_decay(templates: pd.DataFrame, *, margin: float = 0.05) -> Finding:
    """Do templates resemble the mean images of their classes the more, the stronger the weight decay?

    Slope of T against log10 of the weight decay (above 0) by least squares, of members trained on true labels without
    mixup; t over pools, trainings fixed. A positive slope means that weight decay explains the resemblance. Not asked
    where T is near its largest value at every weight decay.
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
    values = PoolValues(plain, question, _at_ceiling(plain, families, templates), shares)
    return Finding(values, "above", "patterns", 100.0, "hundredths of T per decade")


def _at_ceiling(pools: pd.DataFrame, families: list[pd.DataFrame], templates: pd.DataFrame) -> tuple[str, ...]:
    """A warning where T can hardly grow: it is near its largest value already at the smallest weight decay.

    With K classes, centred templates that equal the means have T = K/(K - 1). Raises NothingToDrawError if T is there
    at every weight decay of all families: the slope is then that of the ceiling.
    """
    classes = templates.groupby(templates["population"].astype(object))["template_class"].nunique()
    means = pools.groupby(pools["population"].astype(object))["value"].mean()
    share = means * (1 - 1 / classes.reindex(means.index))
    near = [[share[name] > CEILING for name in own.sort_values("weight_decay")["population"]] for own in families]
    if all(all(doses) for doses in near):
        what = f"T is within {1 - CEILING:.0%} of its largest value at every weight decay"
        shown = f"{what}: its slope is that of the ceiling"
        raise NothingToDrawError("templates", shown)
    first = sum(doses[0] for doses in near)
    text = f"T is within {1 - CEILING:.0%} of its largest value at the smallest weight decay in {first} of {len(near)}"
    return (f"{text} families of trainings: it can hardly grow there",) if first else ()
