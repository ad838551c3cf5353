"""Stages of the path between two members: three straight pieces against smooth curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.inference.path_models import LEAST, MODELS, fit_models
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.groups import group_ids
from analysis.rows.interpolation import about, exclusion_warnings, loss_of, points
from analysis.rows.select import exclusion_reason, require

CITES = ()

GAINS = ("BIC of line minus piecewise", "BIC of the best smooth curve minus piecewise")
BREAKS = ("first breakpoint", "second breakpoint")
QUANTITIES = (*GAINS, *BREAKS)


def stages(
    candidates: pd.DataFrame,
    *,
    metric: str = "cross_entropy",
    by: Sequence[str] = ("population", "alignment", "repair"),
    resolution: float = 0.01,
) -> pd.DataFrame:
    """Breakpoints of a continuous piecewise line with three pieces (2510.10977), if it fits better than a curve.

    The path of a pool is the mean of its pairs' paths (of the metric; `accuracy` as error). Each path is reversed if
    its least squares slope is negative; orienting it by its noisy ends would give a flat path a kink there. The
    piecewise line, with breakpoints on a grid of the given resolution, is fitted to the mean path beside its rivals:
    polynomials of degree 1 to 4, a logistic curve and a smoothing spline. They are compared by BIC with McQuarrie's
    small-sample correction. Of smooth paths (line to quartic, sigmoid, exponential, sine) at most 5% of pools prefer
    pieces with noise up to 5% of their height. Three pieces are found at a noise of 0.5% with 11 points, 2% with 21 and
    5% with 41; a path of a steep middle between flat ends is close to a logistic curve and needs less noise.
    Two quantities are the differences in BIC, above 0 if three pieces are better; two are the breakpoints, as weights,
    NaN with a warning unless three pieces win in most pools. Student's t over pools. A middle piece with fewer than two
    points cannot be found. A pair with a row that is not `ok`, without ends, with other weights than the rest of its
    pool, or with fewer than 9 weights, is left out and counted in `warnings`. Raises AnalysisError for a missing
    column, duplicated rows, or a group that mixes splits, protocols or scalings.
    """
    require(candidates, [metric])
    rows = points(candidates, by)
    rows = rows.assign(loss=loss_of(rows, metric), reason=exclusion_reason(rows, metric))
    pairs = about(rows, [*by, "pool_id"])
    pairs = pairs.assign(series=group_ids(pairs, [*by, "pool_id"])[0], reason=exclusion_warnings(rows))
    rows = _orient(rows.assign(series=rows["path"].map(pairs["series"])), pairs["reason"])
    pairs = pairs.assign(reason=_exclude_uneven(rows, pairs))
    fits = _fit_series(rows[rows["path"].map(pairs["reason"]) == ""], resolution)
    parts = [pairs.assign(quantity=name, value=pairs["series"].map(fits[name])) for name in QUANTITIES]
    values = pd.concat(parts, ignore_index=True)
    values["quantity"] = pd.Categorical(values["quantity"], QUANTITIES, ordered=True)
    found = estimate_over_pools(values, [*by, "quantity"], estimand=f"stages in {metric}", noun="pair")
    return _drop_breakpoints(
        found.astype({"quantity": str}), pairs.assign(winner=pairs["series"].map(fits["winner"])), by
    )


def _orient(rows: pd.DataFrame, reason: pd.Series) -> pd.DataFrame:
    """The points of usable pairs, with the weights of falling paths reversed."""
    rows = rows[rows["path"].map(reason) == ""]
    path = rows["path"]
    weight = rows["weight"]
    slope = ((weight - weight.groupby(path).transform("mean")) * rows["loss"]).groupby(path).sum()
    falls = path.map(slope < 0).astype(bool)
    return rows.assign(weight=weight.mask(falls, 1 - weight).round(9))


def _exclude_uneven(rows: pd.DataFrame, pairs: pd.DataFrame) -> pd.Series:
    """The reasons of all pairs, including too few weights and weights that differ from those of the pool."""
    own = rows.groupby("path").size().reindex(pairs.index)
    all_weights = pairs["series"].map(rows.groupby("series")["weight"].nunique())
    reason = pairs["reason"].mask((pairs["reason"] == "") & (own < all_weights), "other weights than its pool")
    return reason.mask((reason == "") & (own < LEAST), f"fewer than {LEAST} weights")


def _fit_series(rows: pd.DataFrame, resolution: float) -> pd.DataFrame:
    """The quantities and `winner` (place in MODELS) of the mean path of each series."""
    mean = rows.groupby(["series", "weight"])["loss"].mean().unstack()
    if mean.empty:
        return pd.DataFrame(columns=[*QUANTITIES, "winner"], dtype=float)
    alike = mean.groupby([mean[weight].notna() for weight in mean.columns])
    found = [same.dropna(axis=1) for _, same in alike]
    return pd.concat([_fit_models(same.columns.to_numpy(float), same, resolution) for same in found])


def _fit_models(weight: np.ndarray, paths: pd.DataFrame, resolution: float) -> pd.DataFrame:
    """The models fitted to paths that share their weights, one path per row."""
    bic, breaks = fit_models(weight, paths.to_numpy(float), resolution)
    columns = [bic[0] - bic[-1], bic[:-1].min(axis=0) - bic[-1], *breaks.T, bic.argmin(axis=0)]
    return pd.DataFrame(dict(zip((*QUANTITIES, "winner"), columns, strict=True)), index=paths.index)


def _drop_breakpoints(found: pd.DataFrame, pairs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Remove breakpoints unless three pieces win in most pools; a warning names the winner."""
    group, first = group_ids(pairs, by)
    pools = pairs.assign(group=group)[pairs["winner"].notna()].drop_duplicates("series")
    counts = np.zeros((len(first), len(MODELS)), int)
    np.add.at(counts, (pools["group"], pools["winner"].astype(int)), 1)
    # Each group has a row for every quantity, in the order of the groups.
    counts = counts.repeat(len(QUANTITIES), axis=0)
    total = counts.sum(axis=1)
    best = counts.argmax(axis=1)
    most = counts.max(axis=1)
    without_breaks = found["quantity"].isin(BREAKS) & (counts[:, -1] * 2 <= total) & (total > 0)
    winners = zip(best, most, total, strict=True)
    reasons = [f"no breakpoints: the {MODELS[model]} won in {times} of {n} pools" for model, times, n in winners]
    # Removed breakpoints get no warning about their spread.
    kept = [tuple(text for text in row if not text.startswith("no spread")) for row in found["warnings"]]
    cases = zip(found["warnings"], without_breaks, kept, reasons, strict=True)
    warnings = [(*rest, text) if bad else row for row, bad, rest, text in cases]
    found = found.assign(warnings=pd.Series(warnings, found.index, dtype=object))
    found.loc[without_breaks, ["estimate", "se"]] = math.nan
    found.loc[without_breaks, ["df", "low", "high"]] = (0.0, -math.inf, math.inf)
    return found
