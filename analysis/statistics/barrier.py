"""How much worse the models between two members are than the members."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError, NothingToDrawError
from analysis.frames import FIXED, UNIT, chosen, named, over_pools, refuse_duplicates, refuse_mixture, require, usable

QUANTITIES = ("chord barrier", "signed largest interior gap", "midpoint minus mean of ends")
LABEL = ("alignment", "alignment_settings", "repair", "repair_settings")


def barrier(
    candidates: pd.DataFrame,
    *,
    metric: str = "cross_entropy",
    by: Sequence[str] = ("population", "alignment", "repair"),
) -> pd.DataFrame:
    """Three measures of the path L(w) between two members: per pair, then mean in each pool, then t over pools.

    Chord barrier: max over w of L(w) - ((1-w) L(0) + w L(1)), never below 0 as the ends count; signed largest interior
    gap: the same over 0 < w < 1; midpoint minus mean of ends: L(1/2) - (L(0) + L(1)) / 2. L is the metric (`accuracy`
    enters as error, 1 - accuracy), so above 0 is worse than the ends; the answer is in the metric's unit, one row per
    group and `quantity`. Other methods than `interpolation` are ignored. A pair with a row that is not `ok`, or without
    both ends, an interior point or (for the third) w = 1/2, is left out and counted in `warnings`.
    Raises AnalysisError for a missing column, duplicated rows, or a group that mixes splits, protocols or scalings.
    """
    require(candidates, [metric])
    paths = with_weight(chosen(candidates, by))
    pair = [*UNIT, "subset", *LABEL, *FIXED]
    refuse_duplicates(paths, [*pair, "weight"])
    refuse_mixture(paths, by)
    loss = 1 - paths["accuracy"] if metric == "accuracy" else paths[metric]
    paths = paths.assign(loss=loss, reason=usable(paths, metric))
    keep = list(dict.fromkeys([*by, "pool_id"]))
    measured = [
        {**group[keep].iloc[0].to_dict(), **one}
        for _, group in paths.groupby(pair, dropna=False)
        for one in _measure(group)
    ]
    values = pd.DataFrame(measured)
    values["quantity"] = pd.Categorical(values["quantity"], QUANTITIES, ordered=True)
    groups = [*by, "quantity"]
    return over_pools(values, groups, estimand=f"barrier in {metric}", noun="pair").astype({"quantity": str})


def with_weight(rows: pd.DataFrame) -> pd.DataFrame:
    """The interpolation rows with `weight` (0 is the first member, 1 the second), `subset` and `variant`.

    Raises NothingToDrawError where there are none, AnalysisError where settings lack the weight.
    """
    rows = rows[rows["method"] == "interpolation"]
    if rows.empty:
        raise NothingToDrawError("rows", "no rows of `interpolation`", "add it to `methods`, over `pairs: all`")
    weights = [json.loads(text or "{}").get("weight") for text in rows["settings"]]
    if any(weight is None for weight in weights):
        raise AnalysisError("rows", "an `interpolation` without `weight` in its `settings`")
    steps = rows[list(LABEL)].itertuples(index=False)
    variant = [" + ".join(named(a, s) for a, s in ((r[0], r[1]), (r[2], r[3])) if a != "none") for r in steps]
    subset = ["|".join(members) for members in rows["members"]]
    return rows.assign(weight=np.asarray(weights, float), subset=subset, variant=[text or "plain" for text in variant])


def _measure(path: pd.DataFrame) -> list[dict[str, object]]:
    """The three quantities of one pair, each with the reason for which it cannot be told."""
    path = path.sort_values("weight")
    w, loss = path["weight"].to_numpy(float), path["loss"].to_numpy(float)
    reason = next((text for text in path["reason"] if text), "")
    inside = (w > 0) & (w < 1)
    if not reason and not (0.0 in w and 1.0 in w):
        reason = "no ends"
    if not reason and not inside.any():
        reason = "no interior point"
    if reason:
        return [{"quantity": name, "value": np.nan, "reason": reason} for name in QUANTITIES]
    gap = loss - ((1 - w) * loss[w == 0] + w * loss[w == 1])
    middle = np.isclose(w, 0.5)
    values = [max(gap.max(), 0.0), gap[inside].max(), gap[middle][0] if middle.any() else np.nan]
    reasons = ["", "", "" if middle.any() else "no midpoint"]
    return [
        {"quantity": name, "value": value, "reason": why}
        for name, value, why in zip(QUANTITIES, values, reasons, strict=True)
    ]
