"""The gain of a merge by its number of members, pool by pool."""

from __future__ import annotations

import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.rows.pairing import exclusion_warnings, pair_candidates, paired_differences
from analysis.rows.select import MEAN_MEMBER, UNIT


def by_size(candidates: pd.DataFrame, label: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """`value`, the mean gain over the mean member, per population, pool_id and n_members; and warnings.

    Pools with one size are left out. Raises NothingToDrawError if no pool has two sizes or more.
    """
    rows = pair_candidates(candidates, label, MEAN_MEMBER, "accuracy", ["n_members"])
    pairs = paired_differences(rows, label, MEAN_MEMBER, "accuracy", ["n_members"]).assign(group=0)
    used = pairs[(pairs["reason"] == "") & (pairs["n_members"] > 1)]
    sizes = used.groupby([*UNIT, "n_members"], sort=True, observed=True)["value"].mean().reset_index()
    sizes = sizes[sizes.groupby("pool_id")["n_members"].transform("size") > 1]
    if sizes.empty:
        raise NothingToDrawError("candidates", f"no pool has two sizes of `{label}`")
    return sizes, tuple(exclusion_warnings(pairs, 1)[0])
