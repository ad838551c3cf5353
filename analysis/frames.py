"""What every statistic and figure does to rows first: labels, checks, and what is left out and told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError, NothingToDrawError
from analysis.estimate import pool_mean

METRICS = ("accuracy", "cross_entropy", "brier", "ece")
UNIT = ("population", "pool_id")
SCALING = ("scaling", "scaling_settings", "scaling_factor", "scaling_members")
FIXED = ("split", "protocol", *SCALING)
LABEL = ("method", "settings", "alignment", "alignment_settings", "repair", "repair_settings")
MEAN_MEMBER = "mean_member"


def require(rows: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raises AnalysisError that names the columns that are missing."""
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        what = "missing column " + ", ".join(f"`{name}`" for name in missing)
        raise AnalysisError("rows", what, "statistics take the columns of `sweep/table.py`")


def named(name: str, settings: Any) -> str:
    """A name with its settings: `feature_average (head=first)`."""
    values = json.loads(settings) if isinstance(settings, str) and settings else {}
    return f"{name} ({', '.join(f'{key}={value}' for key, value in values.items())})" if values else name


def _label(method: Any, settings: Any, *steps: Any) -> str:
    """The method with its settings, then ` + step` for the alignment and the repair that are not `none`."""
    pairs = zip(steps[::2], steps[1::2], strict=True)
    extra = [named(step, of) for step, of in pairs if isinstance(step, str) and step != "none"]
    return " + ".join([named(method, settings), *extra])


def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `label` (method with settings, alignment and repair) and `subset` (the members as one text)."""
    require(rows, (*LABEL, "members"))
    kinds = rows[list(LABEL)].drop_duplicates()
    labels = {_hashable(kind): _label(*kind) for kind in kinds.itertuples(index=False)}
    label = [labels[_hashable(kind)] for kind in rows[list(LABEL)].itertuples(index=False)]
    subset = ["|".join(members) for members in rows["members"]]
    return rows.assign(label=pd.Series(label, rows.index, dtype=str), subset=pd.Series(subset, rows.index, dtype=str))


def _hashable(kind: Iterable[Any]) -> tuple[str, ...]:
    """A key in which missing values equal each other."""
    return tuple(str(value) for value in kind)


def comparable(candidates: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Labelled rows of one split and protocol, where not grouped by them: test and `correct` where there are any."""
    require(candidates, ("split", "protocol"))
    rows = labelled(candidates)
    for column, wanted in (("split", "test"), ("protocol", "correct")):
        present = set(rows[column].dropna())
        if len(present) > 1 and column not in by:
            rows = rows[rows[column] == (wanted if wanted in present else min(present))]
    return rows


def unscaled(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without a scaling."""
    return rows[rows["scaling"].fillna("none") == "none"]


def chosen(candidates: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """The rows that a comparison of methods is about: comparable, and without a scaling where not grouped by one.

    Raises AnalysisError for missing columns, and where there are no rows.
    """
    require(candidates, (*UNIT, *FIXED, "status", *(name for name in by if name not in ("label", "subset"))))
    rows = comparable(candidates, by)
    rows = rows if set(by) & set(SCALING) else unscaled(rows)
    if rows.empty:
        raise NothingToDrawError("candidates", "no rows without a scaling")
    return rows


def refuse_duplicates(rows: pd.DataFrame, key: Sequence[str]) -> None:
    """Raises AnalysisError where two rows say what one candidate gave: they would count twice."""
    repeated = rows.duplicated(list(key))
    if repeated.any():
        first = rows.loc[repeated, list(key)].iloc[0]
        where = ", ".join(f"{name}={value}" for name, value in first.items())
        raise AnalysisError("rows", f"{int(repeated.sum())} duplicated rows, the first at {where}", "keep one of each")


def refuse_mixture(rows: pd.DataFrame, by: Sequence[str]) -> None:
    """Raises AnalysisError where a group mixes splits, protocols or scalings, whose mean would mean nothing."""
    free = [name for name in FIXED if name not in by]
    counts = rows.groupby(list(by), dropna=False)[free].nunique(dropna=False)
    mixed = [name for name in free if counts[name].gt(1).any()]
    if mixed:
        hint = f"filter the rows, or group by `{mixed[0]}`"
        raise AnalysisError("rows", f"a group mixes several values of `{mixed[0]}`", hint)


def usable(rows: pd.DataFrame, metric: str) -> pd.Series:
    """Why a row is left out: its status, `no <metric>` for a missing value, or an empty text where it is used.

    Raises AnalysisError where no row has the metric at all.
    """
    ok = rows["status"] == "ok"
    if ok.any() and rows.loc[ok, metric].isna().all():
        raise AnalysisError("rows", f"`{metric}` was not evaluated", "name it under `metrics` and run the sweep again")
    finite = np.isfinite(rows[metric].to_numpy(dtype=np.float64, na_value=np.nan))
    reason = rows["status"].astype(object).where(~ok, "")
    return reason.mask(ok & ~finite, f"no {metric}")


def over_pools(
    values: pd.DataFrame,
    by: Sequence[str],
    *,
    estimand: str,
    null: float | None = None,
    margin: float | None = None,
    noun: str = "row",
) -> pd.DataFrame:
    """One estimate per group from `value` (NaN where left out) and `reason`: mean in each pool, then t over pools.

    Rows of one pool weigh equally; what is left out is counted in `warnings`. Columns: `by`, then Estimate's fields.
    """
    found = []
    keys = values.groupby(list(by), dropna=False, sort=True)
    for key, group in keys:
        counts = group.loc[group["reason"] != "", "reason"].value_counts().sort_index()
        told = [f"{n} {noun}{'s' * (n > 1)} left out: {reason}" for reason, n in counts.items()]
        pools = group[group["reason"] == ""].groupby("pool_id", sort=True)["value"].mean()
        lost = group["pool_id"].nunique() - len(pools)
        told += [f"{lost} pool{'s' * (lost > 1)} without a usable {noun}"] if lost and len(pools) else []
        one = pool_mean(pools.to_list(), estimand=estimand, null=null, margin=margin, warnings=told)
        found.append({**dict(zip(by, key, strict=True)), **asdict(one)})
    return pd.DataFrame(found)


def with_mean_member(rows: pd.DataFrame) -> pd.DataFrame:
    """The labelled rows and, per subset, one row `mean_member`: the mean of its members' own metrics.

    A subset with a member whose `single` row is missing or not `ok` gets the status `failed`.
    """
    plain = unscaled(rows)
    place = ["population", "pool_id", "split", "protocol"]
    key = [*place, "subset"]
    subsets = plain[plain["n_members"] > 1].drop_duplicates(key)
    if subsets.empty:
        return rows
    single = plain[(plain["method"] == "single") & (plain["status"] == "ok")].rename(columns={"subset": "member"})
    each = subsets[[*key, "members"]].explode("members").rename(columns={"members": "member"})
    each = each.merge(single[[*place, "member", *METRICS]].assign(known=1.0), "left", on=[*place, "member"])
    means = each.groupby(key, dropna=False)[[*METRICS, "known"]].mean(skipna=False).reset_index()
    made = subsets.drop(columns=[*METRICS, "status"]).merge(means, "left", on=key)
    fill = {"space": "members", "method": MEAN_MEMBER, "settings": "{}", "label": MEAN_MEMBER}
    fill |= {"alignment": "none", "alignment_settings": "{}", "repair": "none", "repair_settings": "{}"}
    made = made.assign(**fill, status=np.where(made["known"] == 1, "ok", "failed"))
    return pd.concat([rows, made[rows.columns]], ignore_index=True)
