"""Rows with scaled members by arm, and accuracy as a function of the factor on each side of 1.

An arm names the members that are multiplied, and which of their tensors.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.rows.groups import group_ids
from analysis.rows.select import SCALING, UNIT, require, unscaled

FACTORS = ("magnify", "homogeneous")
"""The scalings that multiply weights by a factor."""

MOST = 0.5
"""The range of factors ends before the first one at which a larger share of subsets overflows."""


@dataclass(frozen=True)
class Side:
    """One group on one side of 1, `below 1` or `above 1`: its `factors` (factors,) from 1 to the end of the range.

    `accuracy` is (subsets, factors); `pools` has the pool of each subset, `reasons` why it is left out (else empty).
    `overflow` is the factor before which the range ends, None if all are used; `non_finite` is a share of rows.
    """

    key: dict[str, Any]
    name: str
    factors: np.ndarray
    accuracy: np.ndarray
    pools: np.ndarray
    reasons: np.ndarray
    overflow: float | None
    non_finite: float

    @property
    def distance(self) -> np.ndarray:
        """Distance of each factor from 1, |log c|."""
        found: np.ndarray = np.abs(np.log(self.factors))
        return found

    def factor(self, distance: float) -> float:
        """The factor at a distance from 1."""
        return math.exp(distance if self.name == "above 1" else -distance)


def magnified(rows: pd.DataFrame) -> pd.DataFrame:
    """The labelled rows with a factor and their `arm`, with the unscaled rows of the same subsets as factor 1.

    The arm names the multiplied members and, if arms differ in them, the tensors (`first, weights`), or that biases
    follow their layers (`all, homogeneous`). A single member is listed once, in the arm `all`.
    Raises AnalysisError for a missing column, NothingToDrawError where there are no such rows.
    """
    require(rows, (*UNIT, *SCALING, "n_members"))
    # A single member is its own first and last, and has no others.
    once = (rows["n_members"] > 1) | (rows["scaling_members"] == "all")
    scaled = rows[rows["scaling"].isin(FACTORS) & once]
    if scaled.empty:
        raise NothingToDrawError("candidates", "no rows with the scaling `magnify`")
    scaled = scaled.assign(arm=_arms(scaled))
    joint = [*UNIT, "label", "subset", "arm"]
    plain = unscaled(rows).merge(scaled[joint].drop_duplicates(), on=joint[:-1])
    plain = plain.assign(scaling="magnify", scaling_factor=1.0)
    measured = scaled[scaled["scaling_factor"] == 1][joint].drop_duplicates()
    fresh = plain.merge(measured, "left", on=joint, indicator=True)["_merge"] == "left_only"
    joined = pd.concat([scaled, plain[fresh.to_numpy()]], ignore_index=True)
    # The arm replaces the settings, which differ between a row and its unscaled counterpart.
    return joined.assign(scaling="magnify", scaling_settings="", scaling_members=joined["arm"])


def _arms(scaled: pd.DataFrame) -> list[str]:
    """The multiplied members and, if they differ between rows, the tensors."""
    kinds = scaled[["scaling", "scaling_settings"]].drop_duplicates()
    acted = {kind: _tensors(*kind) for kind in kinds.itertuples(index=False, name=None)}
    tensors = [acted[kind] for kind in zip(scaled["scaling"], scaled["scaling_settings"], strict=True)]
    several = len(set(tensors)) > 1
    pairs = zip(scaled["scaling_members"], tensors, strict=True)
    return [f"{which}, {tensor}" if several and tensor != "parameters" else which for which, tensor in pairs]


def _tensors(scaling: str, settings: Any) -> str:
    """The tensors that are multiplied."""
    return scaling if scaling == "homogeneous" else str(json.loads(settings or "{}").get("tensors", "parameters"))


def sides(rows: pd.DataFrame, by: Sequence[str]) -> tuple[list[Side], pd.DataFrame]:
    """Every group of magnified rows with `value` and `reason`, in order: each side of 1 with factors.

    Also returns the pools in order; `pools` of the sides are positions in them.
    """
    group, firsts = group_ids(rows, by)
    pool, one_of_each = group_ids(rows, UNIT)
    curve, _ = group_ids(rows, [*by, *UNIT, "subset"])
    keys = rows.iloc[firsts][list(by)].to_dict("records")
    names = rows.iloc[one_of_each][list(UNIT)]
    order = np.lexsort([rows["scaling_factor"].to_numpy(float), curve])
    columns = (pool, curve, *(rows[name].to_numpy() for name in ("scaling_factor", "value", "reason")))
    ends = np.searchsorted(group[order], np.arange(len(keys) + 1))
    parts = [[column[order[start:end]] for column in columns] for start, end in itertools.pairwise(ends)]
    found = [side for key, part in zip(keys, parts, strict=True) for side in _both(key, *part)]
    return found, names.reset_index(drop=True)


def _both(
    key: dict[str, Any], pool: np.ndarray, curve: np.ndarray, factor: np.ndarray, value: np.ndarray, reason: np.ndarray
) -> list[Side]:
    """The sides of one group, from its rows."""
    factors, column = np.unique(factor, return_inverse=True)
    if 1 not in factors:
        return []  # nothing that a loss could be measured from
    _, first, row = np.unique(curve, return_index=True, return_inverse=True)
    accuracy = np.full((len(first), len(factors)), np.nan)
    reasons = np.full(accuracy.shape, "no row at a factor", dtype=object)
    accuracy[row, column] = value
    reasons[row, column] = reason
    halves = {"below 1": np.flatnonzero(factors <= 1)[::-1], "above 1": np.flatnonzero(factors >= 1)}
    return [
        _ended(Side(key, name, factors[at], accuracy[:, at], pool[first], reasons[:, at], None, 0.0))
        for name, at in halves.items()
        if len(at) > 1
    ]


def _ended(side: Side) -> Side:
    """The side with its range cut before most subsets overflow, and the first reason of each subset within it."""
    overflows = side.reasons == "non_finite"
    known = side.reasons[:, 0] == ""
    over = overflows[known].sum(axis=0) > MOST * known.sum()
    end = int(over.argmax()) if over.any() else len(over)
    reasons = np.array([next(filter(None, row), "") for row in side.reasons[:, :end]], dtype=object)
    if end == 1:
        reasons[known] = "non_finite"
    return replace(
        side,
        factors=side.factors[:end],
        accuracy=side.accuracy[:, :end],
        reasons=reasons,
        overflow=float(side.factors[end]) if over.any() else None,
        non_finite=float(overflows[:, 1:].mean()),
    )
