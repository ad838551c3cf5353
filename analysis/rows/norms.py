"""Merges and members scaled to each other's norm: the effect of averaging apart from smaller weights."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, require, select_comparison

ARMS = {
    ("uniform_soup", "none"): "soup",
    ("uniform_soup", "members"): "grown",
    ("first_member", "soup"): "shrunk",
    ("single", "none"): "member",
}
"""Arm by method and by the norm to which its weights are scaled."""

_KEY = (*UNIT, "n_members", "subset")


def norm_arms(candidates: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Accuracy of the four `ARMS` on every subset that has them, and warnings.

    The member is the first of its subset. Columns: population, pool_id, n_members, subset, and one per arm. Raises
    AnalysisError for a missing column or duplicated rows, NothingToDrawError if no subset has all arms.
    """
    require(candidates, [*UNIT, *FIXED, "n_members", "status", "accuracy"])
    rows = select_comparison(candidates)
    arms = [_arm(*one) for one in rows[["label", "scaling", "scaling_settings"]].itertuples(index=False, name=None)]
    rows = rows.assign(arm=arms)[np.array(arms, dtype=bool)]
    if set(rows["arm"]) != set(ARMS.values()):
        raise NothingToDrawError("candidates", "no soups and first members with the scaling `norm_matched`")
    refuse_duplicates(rows, [*_KEY, "arm"])
    rows = rows.assign(value=rows["accuracy"].astype(float).where(exclusion_reason(rows, "accuracy") == ""))
    rows = rows.astype(dict.fromkeys(_KEY, object)).set_index(list(_KEY))
    norm_matched = rows.index[rows["arm"].isin(["grown", "shrunk"])].unique()
    found = rows.set_index("arm", append=True)["value"].unstack("arm").loc[norm_matched].sort_index().reset_index()
    single = rows[rows["arm"] == "member"].reset_index().set_index(["pool_id", "subset"])["value"]
    first = pd.MultiIndex.from_arrays([found["pool_id"], found["subset"].str.partition("|")[0]])
    whole = found.assign(member=single.reindex(first).to_numpy()).rename_axis(columns=None).dropna()
    if whole.empty:
        raise NothingToDrawError("candidates", "no subset has all arms of `norm_matched`")
    n_excluded = len(found) - len(whole)
    warnings = (
        (f"{n_excluded} subset{'s' * (n_excluded > 1)} left out: an arm is missing or not ok",) if n_excluded else ()
    )
    return whole.reset_index(drop=True), warnings


def _arm(label: str, scaling: Any, settings: Any) -> str:
    """The arm of a row; empty if it belongs to none."""
    norm = json.loads(settings or "{}").get("to", "soup") if scaling == "norm_matched" else scaling or "none"
    return ARMS.get((label, norm), "")


def over_sizes(arms: pd.DataFrame, value: pd.Series) -> pd.DataFrame:
    """A value per subset as one `value` per pool: mean over the subsets of each size, then over sizes."""
    sizes = value.groupby([arms[name] for name in (*UNIT, "n_members")], sort=True).mean()
    return sizes.groupby(level=list(UNIT), sort=True).mean().rename("value").reset_index()
