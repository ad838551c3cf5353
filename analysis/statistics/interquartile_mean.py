"""Interquartile mean of the scores of each method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.inference.stratified_bootstrap import Quantities, bootstrap
from analysis.statistics._scores import cells_and_all

CITES = ("agarwal2021precipice", "hesterberg2015teachers")


def interquartile_mean(
    candidates: pd.DataFrame,
    *,
    metric: str = "accuracy",
    labels: Sequence[str] = (),
    relative_to: str = "",
    seed: int = 0,
) -> pd.DataFrame:
    """Mean of the middle half of the scores of pools (IQM): robust to collapsed pools, and uses more than the median.

    A pool's score is its mean over the subsets that all methods have. One row per population and method, and, for
    several populations, rows of `all populations` with the scores of all their pools together; use `relative_to` (a
    label, such as `mean_member`) there, so that scores of different data sets can be compared. A quarter of the scores
    is cut at each end, whole pools only. Intervals are of a bootstrap over pools, stratified by population, with 2,000
    draws from `seed`. Methods, exclusions and errors are those of `ranks`.
    """
    if relative_to and labels:
        labels = list(dict.fromkeys([*labels, relative_to]))
    found = []
    for one in cells_and_all(candidates, metric, labels):
        own = one.relative_to(relative_to)
        of = f"{metric} minus that of {relative_to}" if relative_to else metric
        about = Quantities([f"interquartile mean over pools of {of}"] * len(own.labels), own.warnings)
        rows = bootstrap(own.sign * own.values, own.populations, middle_mean, about, seed)
        pairs = zip(own.labels, rows, strict=True)
        found += [{"population": own.population, "label": label, **asdict(row)} for label, row in pairs]
    return pd.DataFrame(found)


def middle_mean(values: NDArray[np.float64], strata: NDArray[np.object_]) -> NDArray[np.float64]:
    """The mean of the middle half of the pools, the last but one axis, whatever their strata."""
    n = len(strata)
    cut = n // 4
    return np.asarray(np.sort(values, axis=-2)[..., cut : n - cut, :].mean(axis=-2))
