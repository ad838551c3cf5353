"""The level of a metric, group by group."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, refuse_mixture, require, select_split

CITES = ("student1908mean",)


def pool_means(
    candidates: pd.DataFrame,
    *,
    metric: str = "accuracy",
    by: Sequence[str] = ("population", "space", "label", "n_members"),
) -> pd.DataFrame:
    """Mean of a metric in each pool, then the mean over pools with Student's t interval, per group.

    `by` may also name `label` (method with settings, alignment, repair). In the unit of the metric.
    Rows of the test split, of the protocol `correct` and without scaling count, unless `by` names those columns. Rows
    that are not `ok`, or lack the metric, are left out and counted in `warnings`.
    Raises AnalysisError for a missing column, duplicated rows, or a group that mixes splits, protocols or scalings.
    """
    require(candidates, [metric])
    rows = select_split(candidates, by)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    refuse_mixture(rows, by)
    values = rows.assign(value=rows[metric], reason=exclusion_reason(rows, metric))
    return estimate_over_pools(values, by, estimand=f"mean {metric}")
