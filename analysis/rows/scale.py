"""Rows of members that were multiplied before their merge: by arm, and as accuracy over the factors on each side of 1.

An arm says which members are multiplied, and which of their tensors.
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
"""The scalings that are a factor on weights."""

MOST = 0.5
"""Share of subsets that overflow at a factor beyond which the range of factors ends before it."""


@dataclass(frozen=True)
class Side:
    """One group on one side of 1, `below 1` or `above 1`: its `factors` (factors,) from 1 to the end of the range.

    `accuracy` (subsets, factors) and, per subset, its pool in `pools` and in `reasons` why it is left out (else empty).
    `overflow` is the factor that the range ends before, None where it ends at the last; `non_finite` a share of rows.
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
        """How far each factor is from 1, |log c|."""
        found: np.ndarray = np.abs(np.log(self.factors))
        return found

    def factor(self, distance: float) -> float:
        """The factor at a distance from 1."""
        return math.exp(distance if self.name == "above 1" else -distance)


def magnified(rows: pd.DataFrame) -> pd.DataFrame:
    """The labelled rows with a factor and their `arm`, and the unscaled ones of the same subsets as factor 1 of each.

    The arm says which members are multiplied, and where arms differ in it, which tensors (as `first, weights`) or that
    biases followed their layers (`all, homogeneous`). A single member is shown once, where all members are multiplied.
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
    # The arm says all that the settings say but the factor, and they differ between a row and its unscaled twin.
    return joined.assign(scaling="magnify", scaling_settings="", scaling_members=joined["arm"])


def _arms(scaled: pd.DataFrame) -> list[str]:
    """Which members are multiplied and, where it differs from row to row, which tensors."""
    kinds = scaled[["scaling", "scaling_settings"]].drop_duplicates()
    acted = {kind: _tensors(*kind) for kind in kinds.itertuples(index=False, name=None)}
    tensors = [acted[kind] for kind in zip(scaled["scaling"], scaled["scaling_settings"], strict=True)]
    several = len(set(tensors)) > 1
    pairs = zip(scaled["scaling_members"], tensors, strict=True)
    return [f"{which}, {tensor}" if several and tensor != "parameters" else which for which, tensor in pairs]


def _tensors(scaling: str, settings: Any) -> str:
    """What of a member is multiplied."""
    return scaling if scaling == "homogeneous" else str(json.loads(settings or "{}").get("tensors", "parameters"))


def sides(rows: pd.DataFrame, by: Sequence[str]) -> tuple[list[Side], pd.DataFrame]:
    """Every group of magnified rows with `value` and `reason`, in order: each side of 1 on which it has factors.

    Beside them the pools, in order, to whose positions the sides' `pools` point.
    """
    group, firsts = group_ids(rows, by)
    pool, one_of_each = group_ids(rows, UNIT)
    curve, _ = group_ids(rows, [*by, *UNIT, "subset"])
    keys, names = rows.iloc[firsts][list(by)].to_dict("records"), rows.iloc[one_of_each][list(UNIT)]
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
    _, first, row = np.unique(curve, return_index=True, return_inverse=True)
    accuracy = np.full((len(first), len(factors)), np.nan)
    reasons = np.full(accuracy.shape, "no row at a factor", dtype=object)
    accuracy[row, column], reasons[row, column] = value, reason
    halves = {"below 1": np.flatnonzero(factors <= 1)[::-1], "above 1": np.flatnonzero(factors >= 1)}
    return [
        _ended(Side(key, name, factors[at], accuracy[:, at], pool[first], reasons[:, at], None, 0.0))
        for name, at in halves.items()
        if len(at) > 1
    ]


def _ended(side: Side) -> Side:
    """The side with its range ended before most subsets overflow, and the first reason of each subset within it."""
    lost, known = side.reasons == "non_finite", side.reasons[:, 0] == ""
    over = lost[known].sum(axis=0) > MOST * known.sum()
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
        non_finite=float(lost[:, 1:].mean()),
    )
