"""The level of a metric, group by group."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.frames import FIXED, UNIT, labelled, over_pools, refuse_duplicates, refuse_mixture, require, usable


def pool_means(
    rows: pd.DataFrame,
    *,
    metric: str = "accuracy",
    by: Sequence[str] = ("population", "space", "label", "n_members"),
) -> pd.DataFrame:
    """Mean of a metric in each pool, then the mean over pools with Student's t interval, per group.

    `rows`: candidates; `by` may also name `label` (method with settings, alignment, repair). In the unit of the metric.
    Rows that are not `ok`, or lack the metric, are left out and counted in `warnings`.
    Raises AnalysisError for a missing column, duplicated rows, or a group that mixes splits, protocols or scalings.
    """
    own = [name for name in by if name != "label"]
    require(rows, (*UNIT, *FIXED, "members", "status", metric, *own))
    rows = labelled(rows)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    refuse_mixture(rows, by)
    values = rows.assign(value=rows[metric], reason=usable(rows, metric))
    return over_pools(values, by, estimand=f"mean {metric}")
