"""Does the distance of two members predict the gain of merging them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.core.errors import NothingToDrawError
from analysis.display import numbers, style
from analysis.inference.qap import qap
from analysis.rows.select import select_comparison
from analysis.statistics.predict_gain import PERMUTATIONS, PREDICTORS, pair_gains, predict_gain, usable_pools

TITLE = "What predicts the gain"

WORDS = {
    "l2_distance": "distance",
    "cosine": "cosine of weights",
    "task_cosine": "cosine of task vectors",
    "cka": "CKA of features",
}
MARKS = ("o", "s", "^", "D", "v", "P", "X", "p")
MERGE = "uniform_soup"
METRIC = "accuracy"


def kinship(candidates: pd.DataFrame, pairs: pd.DataFrame) -> style.Plot:
    """What predicts the gain of merging two members: their distance, cosines, or the similarity of their features.

    Top: each mark is a pair of members of one pool, with the gain of its uniform soup over the mean of the two, in
    points of accuracy (over the better one, distance would predict the gain by chance alone). Pools differ in color and
    mark; lines are least squares within a pool. Only correlations within pools count, because pools differ in distance
    and gain for many reasons. Above each panel: Spearman's rank correlation within pools, averaged over pools, the unit
    of replication, with its 95% Student-t interval; pools of fewer than 4 members have none.

    Bottom, where pools have 4 members or more: the grey histogram shows correlations that arise by chance, from 2,000
    relabellings of the members within their pools, with the middle 95% between the dotted lines; the black mark with
    its interval is the correlation found. The p-value is from the same relabellings, studentized, and corrected for the
    number of predictors (Holm): it is about these pools, the interval about new ones. Pairs that share a member are not
    independent, so the number of pairs does not enter.
    """
    rows = pair_gains(candidates, pairs, label=MERGE, predictors=PREDICTORS, metric=METRIC)
    names = [name for name in PREDICTORS if rows.loc[rows["gain"].notna(), name].notna().any()]
    if not names:
        raise NothingToDrawError("pairs", f"no pairs with a gain of `{MERGE}` and a predictor")
    found = predict_gain(candidates, pairs, label=MERGE, predictors=names, metric=METRIC)
    found = found[found["quantity"] == "rank correlation"]
    about = select_comparison(candidates)
    populations = sorted(set(rows.loc[rows["gain"].notna(), "population"]))
    figure, axes = style.grid(2 * len(populations), len(names), height=1.9, share="row")
    axes[0, 0].get_gridspec().set_height_ratios([2.2, 1] * len(populations))
    shown = []
    for k, population in enumerate(populations):
        own = rows[rows["population"] == population]
        one = found[found["population"] == population]
        for column, name in enumerate(names):
            head = f"{population if column == 0 else ''}\n{WORDS[name]}"
            shown += _panels(axes[2 * k : 2 * k + 2, column], own, name, one[one["predictor"] == name], head)
        recipe = style.recipe(about[about["population"] == population])
        axes[2 * k, 0].set_ylabel("gain over the mean\nmember (points)")
        axes[2 * k + 1, 0].set_ylabel("by chance")
        axes[2 * k, -1].annotate(recipe, (1, 1), (0, 39), **_ABOVE).set_in_layout(False)
    _key(figure, rows)
    return style.Plot(figure, pd.concat(shown, ignore_index=True), style.pools(rows[rows["gain"].notna()]))


def _panels(axes: Any, own: pd.DataFrame, name: str, known: pd.DataFrame, head: str) -> list[pd.DataFrame]:
    """Draw a predictor of one population, with chance below; empty panels if only other populations have it."""
    above, below = axes
    if known.empty:
        above.axis("off")
        below.axis("off")
        style.title(above, head, "not known here")
        return []
    one = known.iloc[0]
    points = own[own["gain"].notna() & own[name].notna()]
    _scatter(above, points, name)
    null = _null(below, own, name, one)
    style.title(above, head, _correlation_text(one))
    return [_data(points, name, one, null)]


_ABOVE: Any = {
    "xycoords": "axes fraction",
    "textcoords": "offset points",
    "ha": "right",
    "color": style.MUTED,
    "fontsize": 8,
}


def _scatter(axes: Axes, points: pd.DataFrame, name: str) -> None:
    """Draw the pairs of each pool, and the least-squares line through them."""
    for k, (_, pool) in enumerate(points.groupby("pool_id", sort=True)):
        look = style.series(k)
        x = pool[name].to_numpy(np.float64)
        y = pool["gain"].to_numpy(np.float64) * 100
        axes.plot(x, y, MARKS[k % len(MARKS)], color=look["color"], markersize=4, alpha=0.8)
        if len(x) > 2 and np.ptp(x) > 0:
            slope, height = np.polyfit(x - x.mean(), y, 1)
            ends = np.array([x.min(), x.max()])
            axes.plot(ends, height + slope * (ends - x.mean()), linewidth=1, **look)
    axes.axhline(0, color=style.MUTED, linewidth=0.8)
    axes.set_xlabel(WORDS[name])


def _null(axes: Axes, rows: pd.DataFrame, name: str, one: pd.Series) -> tuple[float, float]:
    """Draw the correlations of relabelled members and the one found; return the ends of the middle 95%."""
    axes.set_xlabel("rank correlation")
    axes.set_xlim(-1.04, 1.04)
    axes.set_yticks([])
    axes.grid(False)
    pools, _ = usable_pools(rows, [name])
    if not pools:
        return np.nan, np.nan
    null = qap([pool.ranked() for pool in pools], 0, permutations=PERMUTATIONS, seed=0)[0][1:]
    counts, edges = np.histogram(null, np.linspace(-1, 1, 41))
    axes.stairs(counts / counts.max(), edges, fill=True, color=style.GRID)
    low, high = np.quantile(null, [0.025, 0.975])
    for end in (low, high):
        axes.axvline(end, color=style.MUTED, linewidth=1, linestyle=":")
    if np.isfinite(one["high"]):
        axes.plot([one["low"], one["high"]], [1.25, 1.25], color=style.INK, linewidth=1.4)
    axes.plot([one["estimate"]], [1.25], "o", color=style.INK, markersize=5)
    axes.set_ylim(0, 1.5)
    return float(low), float(high)


def _correlation_text(one: pd.Series) -> str:
    """The correlation with its interval, its permutation p-value and the number of pools, on two lines."""
    if not one["n_units"]:
        return "too few pairs for a correlation"
    text = f"ρ {numbers.signed(one['estimate'], 2)} {numbers.interval(one['low'], one['high'], 2)}"
    return f"{text}\np {one['qap_p_adjusted']:.2g}, n = {one['n_units']}"


def _data(points: pd.DataFrame, name: str, one: pd.Series, null: tuple[float, float]) -> pd.DataFrame:
    """The pairs with a predictor, and the correlation over all pairs of their population."""
    kept = points[["population", "pool_id", "member_a", "member_b", "gain"]].assign(predictor=name, value=points[name])
    found = one[["estimate", "low", "high", "n_units", "qap_p", "qap_p_adjusted"]].to_dict()
    return kept.assign(**found, null_low=null[0], null_high=null[1])


def _key(figure: Any, rows: pd.DataFrame) -> None:
    """Draw the legend: pools by index, and the histogram by chance."""
    most = int(rows[rows["gain"].notna()].groupby("population")["pool_id"].nunique().max())
    handles: list[Any] = [
        Line2D([], [], label=f"pool {k}", marker=MARKS[k % len(MARKS)], linewidth=1, **style.series(k))
        for k in range(min(most, len(MARKS)))
    ]
    handles.append(Patch(color=style.GRID, label="by chance (relabelled members)"))
    style.key(figure, handles, columns=9)
