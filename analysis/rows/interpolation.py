"""Rows of the method `interpolation` as linear paths between two members."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.rows.groups import group_ids, map_groups
from analysis.rows.select import FIXED, UNIT, named, refuse_duplicates, refuse_mixture, select_split

STEPS = ("alignment", "alignment_settings", "repair", "repair_settings")
PAIR = (*UNIT, "subset", *STEPS, *FIXED)


def with_weight(rows: pd.DataFrame) -> pd.DataFrame:
    """The interpolation rows with `weight` (0 is the first member, 1 the second) and `variant` (alignment and repair).

    Raises NothingToDrawError without such rows, AnalysisError if settings lack the weight.
    """
    rows = rows[rows["method"] == "interpolation"]
    if rows.empty:
        raise NothingToDrawError("rows", "no rows of `interpolation`", "add it to `methods`, over `pairs: all`")
    number, first = group_ids(rows, ["settings"])
    texts = rows["settings"].iloc[first]
    weights = [json.loads(text).get("weight") if isinstance(text, str) and text else None for text in texts]
    if None in weights:
        raise AnalysisError("rows", "an `interpolation` without `weight` in its `settings`")
    return rows.assign(weight=np.array(weights, float)[number], variant=map_groups(rows, STEPS, variant_of))


def variant_of(alignment: Any, settings: Any, repair: Any, repair_settings: Any) -> str:
    """Names of the alignment and repair of a path; `plain` without any."""
    steps = ((alignment, settings), (repair, repair_settings))
    return " + ".join(named(step, of) for step, of in steps if step != "none") or "plain"


def points(candidates: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The points of all paths from weight 0 to 1, with `path` (an id per pair and variant), sorted by path and weight.

    Points beyond the members are left out, so that no measure depends on them. Raises NothingToDrawError if there are
    no others, AnalysisError for missing columns, duplicated points, or a group that mixes splits, protocols or
    scalings.
    """
    rows = with_weight(select_split(candidates, by))
    rows = rows[rows["weight"].between(0, 1)]
    if rows.empty:
        raise NothingToDrawError("rows", "no rows of `interpolation` with a weight from 0 to 1")
    refuse_duplicates(rows, [*PAIR, "weight"])
    refuse_mixture(rows, by)
    rows = rows.assign(path=group_ids(rows, PAIR)[0])
    return rows.sort_values(["path", "weight"], kind="stable", ignore_index=True)


def loss_of(rows: pd.DataFrame, metric: str) -> pd.Series:
    """The metric with higher values being worse: `accuracy` enters as error, 1 - accuracy."""
    return 1 - rows["accuracy"] if metric == "accuracy" else rows[metric]


def above_chord(rows: pd.DataFrame, loss: pd.Series) -> pd.Series:
    """Height of each point above the chord between the ends of its path; NaN if an end is missing."""
    weight = rows["weight"]
    path = rows["path"]
    first = loss.where(weight == 0).groupby(path).transform("max")
    last = loss.where(weight == 1).groupby(path).transform("max")
    return loss - ((1 - weight) * first + weight * last)


def exclusion_warnings(rows: pd.DataFrame) -> pd.Series:
    """The reason why each path, by its id, cannot be used; empty if it can.

    It is the first `reason` of its points, else a missing end or interior point.
    """
    weight = rows["weight"]
    path = rows["path"]
    first_reason = rows["reason"].where(rows["reason"] != "").groupby(path).first()
    ends = weight.isin([0.0, 1.0]).groupby(path).sum()
    inside = weight.between(0, 1, inclusive="neither").groupby(path).any()
    missing_points = pd.Series(np.where(ends < 2, "no ends", np.where(inside, "", "no interior point")), ends.index)
    return first_reason.astype(object).where(first_reason.notna(), missing_points)


def about(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Columns shared by all points of a path, one row per path, indexed by its id."""
    return rows.drop_duplicates("path").set_index("path")[list(dict.fromkeys(columns))]
