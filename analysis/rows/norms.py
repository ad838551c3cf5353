"""Merges and members scaled to each other's norm: the effect of averaging apart from smaller weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.few import near_ceiling
from analysis.inference.two_way import Examples
from analysis.rows.examples import term_examples
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, require, select_comparison
from sweep.core.text import format_count

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

    The member is the first of its subset. Columns: population, pool_id, n_members, subset, split, dataset, one per arm,
    and one `<arm>_id` with its candidate. Raises AnalysisError for a missing column or duplicated rows,
    NothingToDrawError if no subset has all arms.
    """
    require(candidates, [*UNIT, *FIXED, "candidate_id", "dataset", "n_members", "status", "accuracy"])
    rows = select_comparison(candidates)
    arms = [_arm(*one) for one in rows[["label", "scaling", "scaling_settings"]].itertuples(index=False, name=None)]
    rows = rows.assign(arm=arms)[np.array(arms, dtype=bool)]
    if set(rows["arm"]) != set(ARMS.values()):
        raise NothingToDrawError("candidates", "no soups and first members with the scaling `norm_matched`")
    refuse_duplicates(rows, [*_KEY, "arm"])
    rows = rows.assign(value=rows["accuracy"].astype(float).where(exclusion_reason(rows, "accuracy") == ""))
    rows = rows.astype(dict.fromkeys(_KEY, object)).set_index(list(_KEY))
    norm_matched = rows.index[rows["arm"].isin(["grown", "shrunk"])].unique()
    wide = rows.set_index("arm", append=True)[["value", "candidate_id"]].unstack("arm").loc[norm_matched].sort_index()
    about = rows.loc[norm_matched, ["split", "dataset"]].groupby(level=list(_KEY)).first()
    found = wide["value"].join(wide["candidate_id"].add_suffix("_id")).join(about).reset_index()
    single = rows[rows["arm"] == "member"].reset_index().set_index(["pool_id", "subset"])[["value", "candidate_id"]]
    first = single.reindex(pd.MultiIndex.from_arrays([found["pool_id"], found["subset"].str.partition("|")[0]]))
    found = found.assign(member=first["value"].to_numpy(), member_id=first["candidate_id"].to_numpy())
    whole = found.rename_axis(columns=None).dropna(subset=list(ARMS.values()))
    if whole.empty:
        raise NothingToDrawError("candidates", "no subset has all arms of `norm_matched`")
    n_excluded = len(found) - len(whole)
    excluded = (f"{format_count(n_excluded, 'subset')} left out: an arm is missing or not ok",) if n_excluded else ()
    levels = whole[list(ARMS.values())].to_numpy(np.float64).ravel()
    return whole.reset_index(drop=True), (*excluded, *near_ceiling(levels))


def _arm(label: str, scaling: Any, settings: Any) -> str:
    """The arm of a row; empty if it belongs to none."""
    norm = json.loads(settings or "{}").get("to", "soup") if scaling == "norm_matched" else scaling or "none"
    return ARMS.get((label, norm), "")


def arm_examples(
    arms: pd.DataFrame, weights: Mapping[str, float], predictions: pd.DataFrame | None
) -> Mapping[str, Examples] | None:
    """The weighted sum of the arms on each test example by pool, as `over_sizes` of it; None without predictions."""
    subsets = arms.groupby([*UNIT, "n_members"])["subset"].transform("size")
    share = 1 / (subsets * arms.groupby(list(UNIT))["n_members"].transform("nunique"))
    about = arms[["pool_id", "dataset", "split"]]
    terms = [about.assign(candidate_id=arms[f"{arm}_id"], weight=weight * share) for arm, weight in weights.items()]
    return term_examples(pd.concat(terms, ignore_index=True), predictions)


def over_sizes(arms: pd.DataFrame, value: pd.Series) -> pd.DataFrame:
    """A value per subset as one `value` per pool: mean over the subsets of each size, then over sizes."""
    sizes = value.groupby([arms[name] for name in (*UNIT, "n_members")], sort=True).mean()
    return sizes.groupby(level=list(UNIT), sort=True).mean().rename("value").reset_index()
