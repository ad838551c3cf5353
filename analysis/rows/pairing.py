"""Differences between two methods on identical subsets, and their means per pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import ROUNDING
from analysis.inference.few import near_ceiling
from analysis.rows.groups import group_ids
from analysis.rows.select import (
    FIXED,
    LABEL,
    MEAN_MEMBER,
    UNIT,
    exclusion_reason,
    refuse_duplicates,
    refuse_mixture,
    require,
    select_split,
    with_mean_member,
)
from sweep.core.text import did_you_mean, format_count

KEY = (*UNIT, "subset", *FIXED)
OF_METHOD = ("label", "space", *LABEL)
EXCHANGEABLE = ("scratch", "pretrained")
"""Starts whose pools are arbitrary groups of exchangeable members: only the sampling of members differs."""
UNPAIRED = "only one of the two methods has the subset"


@dataclass(frozen=True)
class Group:
    """The pools of one group in the order of their ids: `populations` and `values` (mean difference), one per pool.

    `subsets` and `differences` have one entry per usable pair.
    """

    key: dict[str, Any]
    populations: np.ndarray
    values: np.ndarray
    subsets: np.ndarray
    differences: np.ndarray
    warnings: tuple[str, ...]


def pair_candidates(candidates: pd.DataFrame, a: str, b: str, metric: str, by: Sequence[str]) -> pd.DataFrame:
    """The labelled rows for a comparison of `a` and `b`, with mean members if one of them is `mean_member`."""
    require(candidates, ["n_members", metric])
    rows = select_split(candidates, by)
    if {a, b} - {MEAN_MEMBER} <= set(rows["label"].unique()):
        rows = rows[rows["label"].isin({a, b, MEAN_MEMBER, "single"})]
    refuse_duplicates(rows, [*KEY, "label"])
    made = (rows["label"] == MEAN_MEMBER).any()
    rows = with_mean_member(rows) if MEAN_MEMBER in (a, b) and not made else rows
    return rows.reset_index(drop=True)


def paired_differences(rows: pd.DataFrame, a: str, b: str, metric: str, by: Sequence[str]) -> pd.DataFrame:
    """One line per subset that `a` or `b` has, in the order of `KEY`: metric of `a` minus metric of `b`.

    Columns: `KEY`, `by`, `value`, `reason` (empty for usable pairs), `level`, the mean of both accuracies (NaN for
    other metrics), and `row_a`, `row_b`, the positions in `rows` (-1 if there is none). A column of `by` that differs
    between the methods has its value in `a`.
    """
    first = _side(rows, a, metric)
    second = _side(rows, b, metric)
    second = second.assign(**{name: first[name].iloc[0] for name in by if name in OF_METHOD})
    columns = list(dict.fromkeys([*KEY, *by]))
    both = pd.concat([first[columns], second[columns]])
    pair, places = group_ids(both, KEY)
    at_a = _positions(pair[: len(first)], len(places))
    at_b = _positions(pair[len(first) :], len(places))
    at_first = _taken(first["value"], at_a)
    at_second = _taken(second["value"], at_b)
    value = at_first - at_second
    reason_a = _taken(first["reason"], at_a)
    reason = np.where(reason_a == "", _taken(second["reason"], at_b), reason_a)
    reason[(at_a < 0) | (at_b < 0)] = UNPAIRED
    found = both.iloc[places].assign(
        value=np.where(np.abs(value) <= ROUNDING * np.abs(at_first), 0.0, value),
        reason=reason,
        level=(at_first + at_second) / 2 if metric == "accuracy" else np.nan,
        row_a=np.where(at_a < 0, -1, first.index.to_numpy()[at_a]),
        row_b=np.where(at_b < 0, -1, second.index.to_numpy()[at_b]),
    )
    # Every subset has a mean member, so subsets with only a mean member are no pairs.
    counted = (at_a >= 0 if b == MEAN_MEMBER else True) & (at_b >= 0 if a == MEAN_MEMBER else np.ones(len(found), bool))
    return found[counted].reset_index(drop=True)


def _side(rows: pd.DataFrame, label: str, metric: str) -> pd.DataFrame:
    """The rows of one label with `value` and `reason`."""
    side = rows[rows["label"] == label]
    if side.empty:
        known = sorted(set(rows["label"]) | {MEAN_MEMBER})
        raise AnalysisError("rows", f"no rows of `{label}`", did_you_mean(label, known))
    value = side[metric].to_numpy(np.float64, na_value=np.nan)
    return side.assign(value=value, reason=exclusion_reason(side, metric))


def _positions(pair: np.ndarray, n: int) -> np.ndarray:
    """Position of each pair in its side; -1 if it is missing."""
    found = np.full(n, -1)
    found[pair] = np.arange(len(pair))
    return found


def _taken(column: pd.Series, places: np.ndarray) -> np.ndarray:
    """The values at some positions; values at -1 are arbitrary and must not be used."""
    taken: np.ndarray = column.to_numpy()[places]
    return taken


def group_pairs(pairs: pd.DataFrame, by: Sequence[str]) -> list[Group]:
    """The groups of `by` in order, one for all if it is empty: mean difference of every pool over its subsets.

    Raises AnalysisError for a group that mixes splits, protocols or scalings.
    """
    pairs = pairs.assign(group=group_numbers(pairs, by))
    refuse_mixture(pairs, ["group"])
    keys = pairs.drop_duplicates("group").sort_values("group")[list(by)].to_dict("records")
    warnings = group_warnings(pairs, len(keys))
    used = pairs[pairs["reason"] == ""].sort_values("group", kind="stable")
    means = used.groupby(["group", *UNIT], dropna=False, sort=True)["value"].mean().reset_index()
    bounds = np.arange(len(keys) + 1)
    ends = np.searchsorted(means["group"], bounds)
    rows = np.searchsorted(used["group"], bounds)
    populations = means["population"].to_numpy(object)
    values = means["value"].to_numpy()
    subsets = used["subset"].to_numpy(object)
    each = used["value"].to_numpy()
    found = []
    for index, key in enumerate(keys):
        pools = slice(ends[index], ends[index + 1])
        own = slice(rows[index], rows[index + 1])
        found.append(Group(key, populations[pools], values[pools], subsets[own], each[own], tuple(warnings[index])))
    return found


def group_numbers(pairs: pd.DataFrame, by: Sequence[str]) -> np.ndarray:
    """The id of each row's group, from 0 in the order of `by`; 0 for all rows if `by` is empty."""
    if not by:
        return np.zeros(len(pairs), int)
    numbers: np.ndarray = pairs.groupby(list(by), dropna=False, sort=True).ngroup().to_numpy()
    return numbers


def ceiling_warnings(rows: pd.DataFrame, groups: int) -> list[tuple[str, ...]]:
    """A warning of each `group` whose used rows have a mean `level`, their accuracy, near the ceiling.

    Groups have no warning if the rows have no level, because their values do not rest on accuracies.
    """
    if "level" not in rows:
        return [()] * groups
    means = rows[rows["reason"] == ""].groupby("group")["level"].mean().reindex(range(groups))
    return [near_ceiling([level]) for level in means]


def exchangeable_warnings(starts: pd.Series) -> tuple[str, ...]:
    """A warning where pools are arbitrary groups of exchangeable members."""
    found = sorted(set(starts.dropna()) & set(EXCHANGEABLE))
    what = f"pools of a {' or '.join(found)} start are groups of exchangeable members: t over pools uses fewer degrees"
    return (f"{what} of freedom than `paired_difference over=members`",) if found else ()


def has_new_splits(rows: pd.DataFrame) -> bool:
    """Whether the pools of every population have training splits of their own (`vary_split`)."""
    if "dataset_settings" not in rows or rows.empty:
        return False
    pools = rows.drop_duplicates("pool_id").groupby("population", observed=True)["dataset_settings"]
    return bool((pools.nunique() > 1).all())


def group_warnings(pairs: pd.DataFrame, groups: int, noun: str = "pair") -> list[list[str]]:
    """Warnings of each group: excluded rows, each called a `noun`, pools without usable rows, and the ceiling."""
    warnings: list[list[str]] = [[] for _ in range(groups)]
    excluded = pairs[pairs["reason"] != ""]
    for (group, reason), n in excluded.groupby(["group", "reason"], sort=True).size().items():
        warnings[group].append(f"{format_count(n, noun)} left out: {reason}")
    pools = pairs.drop_duplicates(["group", *UNIT])
    used = pairs[pairs["reason"] == ""].drop_duplicates(["group", *UNIT])
    missing = np.bincount(pools["group"], minlength=groups) - np.bincount(used["group"], minlength=groups)
    for group in np.flatnonzero(missing):
        warnings[group].append(f"{format_count(missing[group], 'pool')} without a usable {noun}")
    return [[*own, *ceiling] for own, ceiling in zip(warnings, ceiling_warnings(pairs, groups), strict=True)]
