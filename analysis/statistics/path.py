"""Barriers on the linear path between two members."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.interpolation import about, above_chord, exclusion_warnings, loss_of, points
from analysis.rows.select import exclusion_reason, require

CITES = ("frankle2020linear", "student1908mean", "schuirmann1987comparison")

MIDPOINT = "midpoint minus mean of ends"
QUANTITIES = ("chord barrier", "excess over the worse end", "signed largest interior gap", MIDPOINT)


def path(
    candidates: pd.DataFrame,
    *,
    metric: str = "cross_entropy",
    by: Sequence[str] = ("population", "alignment", "repair"),
    margin: float | None = None,
) -> pd.DataFrame:
    """Four measures of the path L(w) between two members: mean over pairs in each pool, then Student's t over pools.

    Chord barrier (Frankle et al., 1912.05671): max over w of L(w) - ((1-w) L(0) + w L(1)), never below 0 as the ends
    count; excess over the worse end: max over w of L(w) - max(L(0), L(1)), never below 0 either; signed largest
    interior gap: the chord barrier over 0 < w < 1 only; midpoint minus mean of ends: L(1/2) - (L(0) + L(1)) / 2, the
    only measure whose noise averages out, hence the only one with a `p` against zero and a `margin`. A maximum over
    noisy points is biased upwards, by about 1.9 standard deviations of the noise for 19 points: see `path_split_half`.
    L is the metric (`accuracy` enters as error, 1 - accuracy), so above 0 is worse than the ends. One row per group and
    `quantity`, in the unit of the metric. Other methods than `interpolation` are ignored. A pair with a row
    that is not `ok`, or without both ends, an interior point or (for the last) w = 1/2, is left out and counted in
    `warnings`. Raises AnalysisError for a missing column, duplicated rows, or a group that mixes splits, protocols or
    scalings.
    """
    require(candidates, [metric])
    rows = points(candidates, by)
    rows = rows.assign(loss=loss_of(rows, metric), reason=exclusion_reason(rows, metric))
    level = rows["accuracy"] if metric == "accuracy" else pd.Series(np.nan, rows.index)
    values = _path_values(rows.assign(level=level), [*by, "pool_id"])
    groups = [*by, "quantity"]
    estimand = f"path in {metric}"
    middle = values["quantity"] == MIDPOINT
    largest = estimate_over_pools(values[~middle], groups, estimand=estimand, noun="pair")
    asked = estimate_over_pools(values[middle], groups, estimand=estimand, null=0.0, margin=margin, noun="pair")
    found = pd.concat([largest.astype({"p": object}), asked.astype({"p": object})])
    found["quantity"] = pd.Categorical(found["quantity"], QUANTITIES, ordered=True)
    return found.sort_values(groups, kind="stable", ignore_index=True).astype({"quantity": str})


def _path_values(rows: pd.DataFrame, keep: Sequence[str]) -> pd.DataFrame:
    """The four quantities of every path, each with the reason if it is missing."""
    number = rows["path"]
    weight = rows["weight"]
    loss = rows["loss"]
    end = weight.isin([0.0, 1.0])
    gap = above_chord(rows, loss)
    middle = gap.where(np.isclose(weight, 0.5)).groupby(number).max()
    found = {
        "chord barrier": gap.groupby(number).max(),
        "excess over the worse end": loss.groupby(number).max() - loss.where(end).groupby(number).max(),
        "signed largest interior gap": gap.where(~end).groupby(number).max(),
        MIDPOINT: middle,
    }
    columns = about(rows, keep).assign(level=rows["level"].groupby(number).mean())
    reason = exclusion_warnings(rows)
    reasons = dict.fromkeys(QUANTITIES, reason)
    reasons[MIDPOINT] = reason.where((reason != "") | middle.notna(), "no midpoint")
    parts = [columns.assign(quantity=name, value=found[name], reason=reasons[name]) for name in QUANTITIES]
    values = pd.concat(parts, ignore_index=True)
    return values.assign(quantity=pd.Categorical(values["quantity"], QUANTITIES, ordered=True))
