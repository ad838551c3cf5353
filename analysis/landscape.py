"""The rows of `plane` as points of a plane, and where its three members lie in it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from analysis.errors import NothingToDrawError
from analysis.frames import UNIT, chosen, require

METHOD = "plane"


def points(candidates: pd.DataFrame) -> pd.DataFrame:
    """The unscaled points of all planes, with `a` and `b`. Raises NothingToDrawError where there are none."""
    rows = candidates[candidates["method"] == METHOD]
    if rows.empty:
        raise NothingToDrawError("candidates", "no rows of `plane`", "add it to `methods`, over subsets of three")
    rows = chosen(rows)
    told = [json.loads(text) for text in rows["settings"]]
    return rows.assign(a=[float(one["a"]) for one in told], b=[float(one["b"]) for one in told])


def corners(rows: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Where the second and the third member lie from the first, (2, 2), from the mean distances of all triples.

    The second lies to the right; angles are those in the space of weights, which the plane keeps.
    """
    require(pairs, [*UNIT, "member_a", "member_b", "l2_distance"])
    known = pairs.set_index([pairs["member_a"].astype(object), pairs["member_b"].astype(object)])["l2_distance"]
    triples = rows.drop_duplicates(["pool_id", "subset"])["members"]
    sides = np.array([[_distance(known, one[i], one[j]) for i, j in ((0, 1), (0, 2), (1, 2))] for one in triples])
    first, second, across = np.nanmean(sides, axis=0) if np.isfinite(sides).any() else np.ones(3)
    along = (first**2 + second**2 - across**2) / (2 * first)
    return np.array([[first, 0.0], [along, np.sqrt(max(second**2 - along**2, 0.0))]])


def _distance(known: pd.Series, first: str, second: str) -> float:
    """The distance of two members, whichever is named first; NaN where it is not known."""
    return float(known.get((first, second), known.get((second, first), np.nan)))
