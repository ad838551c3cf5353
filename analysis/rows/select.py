"""Labels, checks, selection and exclusion of rows, shared by statistics and figures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.rows.groups import column_codes, concat_rows, group_ids, map_groups

METRICS = ("accuracy", "cross_entropy", "brier", "ece", "ece_mass")
UNIT = ("population", "pool_id")
SCALING = ("scaling", "scaling_settings", "scaling_factor", "scaling_members")
FIXED = ("split", "protocol", *SCALING)
LABEL = ("method", "settings", "alignment", "alignment_settings", "repair", "repair_settings")
MEAN_MEMBER = "mean_member"
BEST_MEMBER = "best_member"
"""The method that takes the member with the highest validation accuracy."""
POINTS = ("interpolation", "plane")
"""Methods whose merges are points of paths or planes, not merging methods."""


def require(rows: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raises AnalysisError with the names of missing columns."""
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        what = "missing column " + ", ".join(f"`{name}`" for name in missing)
        raise AnalysisError("rows", what, "statistics need the columns in `sweep/storage/columns.py`")


def named(name: str, settings: Any) -> str:
    """A name with its settings: `feature_average (head=first)`."""
    values = json.loads(settings) if isinstance(settings, str) and settings else {}
    return f"{name} ({', '.join(f'{key}={value}' for key, value in values.items())})" if values else name


def _label(method: Any, settings: Any, *steps: Any) -> str:
    """The method with its settings, then ` + step` for the alignment and the repair that are not `none`."""
    pairs = zip(steps[::2], steps[1::2], strict=True)
    extra = [named(step, of) for step, of in pairs if isinstance(step, str) and step != "none"]
    return " + ".join([named(method, settings), *extra])


def add_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `label` (method with settings, alignment and repair) and `subset` (the members as one text).

    An existing `subset`, as in rows from `load`, is kept.
    """
    require(rows, (*LABEL, "members"))
    rows = rows.assign(label=map_groups(rows, LABEL, _label))
    if "subset" in rows:
        return rows
    return rows.assign(subset=pd.Series(["|".join(members) for members in rows["members"]], rows.index, dtype=str))


def _of_one_kind(candidates: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Mask of the rows of the default split and protocol, unless grouped by them."""
    kept = pd.Series(True, candidates.index)
    for column, wanted in (("split", "test"), ("protocol", "correct")):
        present = set(candidates.loc[kept, column].dropna().unique())
        if len(present) > 1 and column not in by:
            kept &= candidates[column] == (wanted if wanted in present else min(present))
    return kept


def select_comparison(candidates: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Labelled rows of one split and protocol unless grouped by them: test and `correct` if present."""
    require(candidates, ("split", "protocol", *LABEL, "members"))
    return add_labels(candidates[_of_one_kind(candidates, by)])


def _without_scaling(rows: pd.DataFrame) -> pd.Series:
    """Mask of the rows without scaling."""
    return rows["scaling"].isna() | (rows["scaling"] == "none")


def unscaled(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without a scaling."""
    return rows[_without_scaling(rows)]


def select_split(candidates: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Labelled rows of one split and protocol, without scaling, unless grouped by these columns.

    Raises AnalysisError for missing columns, and if there are no rows.
    """
    own = [name for name in by if name not in ("label", "subset")]
    require(candidates, dict.fromkeys((*UNIT, *FIXED, "status", *own, *LABEL, "members")))
    kept = _of_one_kind(candidates, by)
    kept = kept if set(by) & set(SCALING) else kept & _without_scaling(candidates)
    if not kept.any():
        raise NothingToDrawError("candidates", "no rows without a scaling")
    return add_labels(candidates[kept])


def refuse_duplicates(rows: pd.DataFrame, key: Sequence[str]) -> None:
    """Raises AnalysisError if two rows have the same key: they would count twice."""
    _, first = group_ids(rows, key)
    if len(first) < len(rows):
        repeated = np.delete(np.arange(len(rows)), first)
        where = ", ".join(f"{name}={value}" for name, value in rows[list(key)].iloc[repeated[0]].items())
        raise AnalysisError("rows", f"{len(repeated)} duplicated rows, the first at {where}", "keep one of each")


def refuse_mixture(rows: pd.DataFrame, by: Sequence[str], fixed: Sequence[str] = FIXED) -> None:
    """Raises AnalysisError if a group mixes splits, protocols or scalings, which cannot be averaged."""
    group, first = group_ids(rows, by)
    for name in fixed:
        own, _ = column_codes(rows[name])
        if name not in by and (own != own[first][group]).any():
            hint = f"filter the rows, or group by `{name}`"
            raise AnalysisError("rows", f"a group mixes several values of `{name}`", hint)


def exclusion_reason(rows: pd.DataFrame, metric: str) -> pd.Series:
    """Why a row is left out: its status, `no <metric>` for a missing value, or empty if it is used.

    Raises AnalysisError if no row has the metric.
    """
    ok = (rows["status"] == "ok").to_numpy(bool)
    if ok.any() and rows.loc[ok, metric].isna().all():
        raise AnalysisError("rows", f"`{metric}` was not evaluated", "name it under `metrics` and run the sweep again")
    finite = np.isfinite(rows[metric].to_numpy(dtype=np.float64, na_value=np.nan))
    reason = np.where(ok, "", rows["status"].to_numpy(object))
    reason[ok & ~finite] = f"no {metric}"
    return pd.Series(reason, rows.index, dtype=object)


def with_mean_member(rows: pd.DataFrame) -> pd.DataFrame:
    """The labelled rows and, per subset, one row `mean_member`: the mean of its members' own metrics.

    A subset with a member whose `single` row is missing or not `ok` gets the status `failed`. Rows with mean
    members are returned unchanged.
    """
    plain = unscaled(rows)
    place = ["population", "pool_id", "split", "protocol"]
    merges = plain[plain["n_members"] > 1]
    if merges.empty or (rows["label"] == MEAN_MEMBER).any():
        return rows
    subsets = merges.iloc[np.sort(group_ids(merges, [*place, "subset"])[1])]
    means = _mean_members(subsets, plain[(plain["label"] == "single") & (plain["status"] == "ok")], place)
    fill = {"space": "members", "method": MEAN_MEMBER, "settings": "{}", "label": MEAN_MEMBER}
    fill |= {"alignment": "none", "alignment_settings": "{}", "repair": "none", "repair_settings": "{}"}
    status = np.where(means["known"] == 1, "ok", "failed")
    return concat_rows(rows, subsets.assign(**fill, status=status, **{name: means[name] for name in METRICS}))


def _mean_members(subsets: pd.DataFrame, single: pd.DataFrame, place: list[str]) -> pd.DataFrame:
    """Mean metrics of the members of each subset, and `known`: 1 if every member has a row, else NaN."""
    counts = subsets["members"].map(len).to_numpy()
    each = subsets[place].iloc[np.repeat(np.arange(len(subsets)), counts)]
    each = each.assign(subset=list(itertools.chain.from_iterable(subsets["members"])))
    both = pd.concat([single[[*place, "subset"]].astype({"subset": object}), each], ignore_index=True)
    number, first = group_ids(both, [*place, "subset"])
    at = first[number[len(single) :]]
    own = single[list(METRICS)].astype(np.float64).assign(known=1.0).to_numpy()
    unknown = np.full((1, own.shape[1]), np.nan)
    found = np.concatenate([own, unknown])[np.minimum(at, len(own))]
    starts = np.cumsum(counts) - counts
    return pd.DataFrame(np.add.reduceat(found, starts) / counts[:, None], subsets.index, [*METRICS, "known"])
