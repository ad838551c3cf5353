"""The rows of `interpolation` as paths: the points of the straight line between two members."""

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

    Raises NothingToDrawError where there are none, AnalysisError where settings lack the weight.
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
    """The steps of a path by name, `plain` where there are none."""
    steps = ((alignment, settings), (repair, repair_settings))
    return " + ".join(named(step, of) for step, of in steps if step != "none") or "plain"


def points(candidates: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The points that a statistic is about, with `path` (a number per pair and variant), sorted by path and weight.

    Raises AnalysisError for missing columns, duplicated points, or a group that mixes splits, protocols or scalings.
    """
    rows = with_weight(select_split(candidates, by))
    refuse_duplicates(rows, [*PAIR, "weight"])
    refuse_mixture(rows, by)
    rows = rows.assign(path=group_ids(rows, PAIR)[0])
    return rows.sort_values(["path", "weight"], kind="stable", ignore_index=True)


def loss_of(rows: pd.DataFrame, metric: str) -> pd.Series:
    """The metric so that more is worse: `accuracy` enters as error, 1 - accuracy."""
    return 1 - rows["accuracy"] if metric == "accuracy" else rows[metric]


def above_chord(rows: pd.DataFrame, loss: pd.Series) -> pd.Series:
    """How far each point lies above the line between the ends of its path; NaN where the path lacks an end."""
    weight, path = rows["weight"], rows["path"]
    first = loss.where(weight == 0).groupby(path).transform("max")
    last = loss.where(weight == 1).groupby(path).transform("max")
    return loss - ((1 - weight) * first + weight * last)


def exclusion_warnings(rows: pd.DataFrame) -> pd.Series:
    """Why each path cannot be measured, by its number; empty where it can.

    That is the `reason` of its first point that has one, else an end or an interior point that it lacks.
    """
    weight, path = rows["weight"], rows["path"]
    told = rows["reason"].where(rows["reason"] != "").groupby(path).first()
    ends = weight.isin([0.0, 1.0]).groupby(path).sum()
    inside = weight.between(0, 1, inclusive="neither").groupby(path).any()
    lacking = pd.Series(np.where(ends < 2, "no ends", np.where(inside, "", "no interior point")), ends.index)
    return told.astype(object).where(told.notna(), lacking)


def about(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns that all points of a path share, one row per path, by its number."""
    return rows.drop_duplicates("path").set_index("path")[list(dict.fromkeys(columns))]
