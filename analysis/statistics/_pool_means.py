"""Means over pools of a metric, for the statistics `pool_means` and `pareto`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, refuse_mixture, require, select_split


def pool_mean_rows(candidates: pd.DataFrame, metric: str, by: Sequence[str]) -> pd.DataFrame:
    """A row per group of `by`: the estimate of the mean of a metric over pools. Errors as of `pool_means`."""
    require(candidates, [metric])
    rows = select_split(candidates, by)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    refuse_mixture(rows, by)
    level = rows["accuracy"] if metric == "accuracy" else np.nan
    values = rows.assign(value=rows[metric], reason=exclusion_reason(rows, metric), level=level)
    return estimate_over_pools(values, by, estimand=f"mean {metric}")
