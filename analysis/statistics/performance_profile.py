"""Performance profiles: the share of pools with a score above each of several thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from analysis.inference.stratified_bootstrap import Quantities, bootstrap, cell_mean
from analysis.statistics._scores import Scores, cells_and_all

CITES = ("agarwal2021precipice", "dolan2002benchmarking", "hesterberg2015teachers")

THRESHOLDS = 21


def performance_profile(
    candidates: pd.DataFrame,
    *,
    metric: str = "accuracy",
    labels: Sequence[str] = (),
    relative_to: str = "",
    thresholds: Sequence[float] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """Share of pools whose score is better than each `threshold`: the whole distribution of scores, not one average.

    A pool's score is its mean over the subsets that all methods have, or its difference to that of the label
    `relative_to` on the same subsets. One row per population, method and threshold and, for several populations, rows
    of `all populations`: the mean over populations. Better is above for accuracy and below for a loss. Thresholds are
    in the unit of the metric, by default 21 from the lowest to the highest score. Intervals hold for one threshold at a
    time; they are of a bootstrap over pools, stratified by population, with 2,000 draws from `seed`, and exact one-
    sided limits where all pools are on one side. Methods, exclusions and errors are those of `ranks`.
    """
    if relative_to and labels:
        labels = list(dict.fromkeys([*labels, relative_to]))
    found = []
    for one in cells_and_all(candidates, metric, labels):
        own = one.relative_to(relative_to)
        places = np.array(sorted(set(thresholds))) if thresholds else _default(own)
        above = own.values[:, :, None] > own.sign * places
        names = [f"P({metric} better than the threshold)"] * (len(own.labels) * len(places))
        about = Quantities(names, own.warnings, (0.0, 1.0))
        flat = above.reshape(len(above), len(names)).astype(np.float64)
        rows = bootstrap(flat, own.populations, cell_mean, about, seed)
        keys = [(label, float(place)) for label in own.labels for place in places]
        found += [
            {"population": own.population, "label": label, "threshold": place, **asdict(row)}
            for (label, place), row in zip(keys, rows, strict=True)
        ]
    return pd.DataFrame(found)


def _default(found: Scores) -> np.ndarray:
    """Equally spaced thresholds over the range of the scores."""
    scores = found.sign * found.values
    return np.linspace(scores.min(), scores.max(), THRESHOLDS) if scores.size else np.zeros(1)
