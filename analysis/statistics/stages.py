"""Stages of the path between two members: three straight pieces against one curve."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.groups import group_ids
from analysis.rows.interpolation import about, exclusion_warnings, loss_of, points
from analysis.rows.select import exclusion_reason, require

CITES = ()

GAINS = ("BIC of line minus piecewise", "BIC of quadratic minus piecewise")
BREAKS = ("first breakpoint", "second breakpoint")
QUANTITIES = (*GAINS, *BREAKS)
MODELS = ("line", "quadratic", "piecewise line")
PARAMETERS = np.array([2, 3, 6])
"""Number of parameters of each model, including the two breakpoints."""
LEAST = 9
"""Minimum number of weights: the correction of BIC divides by weights - parameters - 2."""
PIECES = np.array([[3], [2], [3]])
"""Minimum number of weights in each piece, including its breakpoints."""
BLOCK = 256
"""Paths that are fitted at once."""


def stages(
    candidates: pd.DataFrame,
    *,
    metric: str = "cross_entropy",
    by: Sequence[str] = ("population", "alignment", "repair"),
    resolution: float = 0.01,
) -> pd.DataFrame:
    """Breakpoints of a continuous piecewise line with three pieces (2510.10977), if it fits better than a curve.

    The path of a pool is the mean of its pairs' paths (of the metric; `accuracy` as error). Each path is reversed if
    its least squares slope is negative; orienting it by its noisy ends would give a flat path a kink there. A line, a
    quadratic and the piecewise line are fitted to the mean path, with breakpoints on a grid of the given resolution,
    and compared by BIC with McQuarrie's small-sample correction: without it, three pieces win on a fifth of the noisy
    flat or quadratic paths of 11 points. With it, 11 points show stages at a noise of 2% of their height and miss them
    at 5%; 21 points show them at 9%. Two quantities are the differences in BIC, above 0 if three pieces are better; two
    are the breakpoints, as weights, NaN with a warning unless three pieces win in most pools. Student's t over pools. A
    smooth curve that is neither a line nor a quadratic can also be fitted best by pieces, and a middle piece with fewer
    than two points cannot be found: look at the path. A pair with a row that is not `ok`, without ends, with other
    weights than the rest of its pool, or with fewer than 9 weights, is left out and counted in `warnings`. Raises
    AnalysisError for a missing column, duplicated rows, or a group that mixes splits, protocols or scalings.
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
    """The three models fitted to paths that share their weights, one path per row."""
    loss = paths.to_numpy(float)
    n = len(weight)
    # Differences below a millionth of the loss are rounding of float32 outputs: the BIC of an exact fit is bounded.
    floor = n * (1e-6 * np.abs(loss).max(axis=1)) ** 2 + np.finfo(float).tiny
    loss = loss - loss.mean(axis=1, keepdims=True)
    breaks, designs = _pieces(weight, resolution)
    blocks = [_search(designs, loss[start : start + BLOCK]) for start in range(0, len(loss), BLOCK)]
    least, place = (np.concatenate(part) for part in zip(*blocks, strict=True))
    residual = np.stack([_residual(np.vander(weight, 2), loss), _residual(np.vander(weight, 3), loss), least])
    penalty = PARAMETERS * math.log(n) * n / (n - PARAMETERS - 2)
    bic = n * np.log(np.maximum(residual, floor) / n) + penalty[:, None]
    columns = [bic[0] - bic[2], bic[1] - bic[2], *breaks[place].T, bic.argmin(axis=0)]
    return pd.DataFrame(dict(zip((*QUANTITIES, "winner"), columns, strict=True)), index=paths.index)


def _pieces(weight: np.ndarray, resolution: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of breakpoints, and the orthonormal columns of a line bent at them."""
    grid = np.union1d((np.arange(1, round(1 / resolution)) * resolution).round(9), weight[1:-1])
    breaks = np.array(list(itertools.combinations(grid, 2)))
    first = breaks[:, :1]
    second = breaks[:, 1:]
    near = 1e-9
    between = (weight >= first - near) & (weight <= second + near)
    sizes = np.stack([(weight <= first + near).sum(1), between.sum(1), (weight >= second - near).sum(1)])
    breaks = breaks[(sizes >= PIECES).all(axis=0)]
    bends = [np.maximum(weight - one, 0) for one in (breaks[:, :1], breaks[:, 1:])]
    straight = [np.broadcast_to(column, bends[0].shape) for column in (np.ones_like(weight), weight)]
    return breaks, np.linalg.qr(np.stack([*straight, *bends], axis=2))[0]


def _search(designs: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest residual sum of squares of each path over all designs, and the index of that design."""
    explained = (np.swapaxes(designs, 1, 2) @ loss.T) ** 2
    residual = (loss**2).sum(axis=1) - explained.sum(axis=1)
    place = residual.argmin(axis=0)
    return residual[place, np.arange(len(loss))], place


def _residual(design: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """The residual sum of squares of each path."""
    basis = np.linalg.qr(design)[0]
    rest: np.ndarray = ((loss - loss @ basis @ basis.T) ** 2).sum(axis=1)
    return rest


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
