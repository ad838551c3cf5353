"""How many members searches choose."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, refuse_mixture, require, select_split

CITES = ("student1908mean",)

BY = ("population", "label", "n_members")


def chosen_members(candidates: pd.DataFrame) -> pd.DataFrame:
    """The mean number of members that a search such as `greedy_soup` chose, per population, label and size of subset.

    Mean in each pool, then over pools with Student's t interval. `single_share` is the share of subsets of which one
    member alone was chosen, so that the merge is that member; `subsets` is their number.
    Rows that are not `ok` are left out and counted in `warnings`. Raises AnalysisError for a missing column, duplicated
    rows, and if no row is of a search, as in runs of versions that recorded no choice.
    """
    require(candidates, ["chosen", "accuracy"])
    rows = select_split(candidates, BY)
    rows = rows[rows["chosen"].notna()]
    if rows.empty:
        raise NothingToDrawError("candidates", "no row records what a search chose")
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    refuse_mixture(rows, BY)
    sizes = np.array([len(chosen) for chosen in rows["chosen"]], np.float64)
    values = rows.assign(value=sizes, reason=exclusion_reason(rows, "accuracy"))
    found = estimate_over_pools(values, BY, estimand="members chosen")
    ok = values[values["reason"] == ""].groupby(list(BY), observed=True)["value"]
    share = found.join(ok.agg(lambda own: (own == 1).mean()).rename("single_share"), on=list(BY))
    counted = share.join(ok.size().rename("subsets"), on=list(BY))
    return counted[[*BY, "subsets", "single_share", *found.columns.drop(list(BY))]]
