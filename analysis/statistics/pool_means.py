"""The level of a metric, group by group."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.statistics._pool_means import pool_mean_rows

CITES = ("student1908mean",)


def pool_means(
    candidates: pd.DataFrame,
    *,
    metric: str = "accuracy",
    by: Sequence[str] = ("population", "space", "label", "n_members"),
) -> pd.DataFrame:
    """Mean of a metric in each pool, then the mean over pools with Student's t interval, per group.

    `by` may also name `label` (method with settings, alignment, repair). `estimate` is in the unit of the metric.
    Only rows of the test split, of the protocol `correct` and without scaling are used, unless `by` has those columns.
    Rows that are not `ok`, or lack the metric, are left out and counted in `warnings`.
    Raises AnalysisError for a missing column, duplicated rows, or a group that mixes splits, protocols or scalings.
    """
    return pool_mean_rows(candidates, metric, by)
