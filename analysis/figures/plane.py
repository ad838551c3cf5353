"""The plane through three members."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.select import UNIT, exclusion_reason, require, select_split

TITLE = "The plane through three members"

QUANTITY = {"cross_entropy": "cross-entropy (nats)", "accuracy": "accuracy (%)"}
LEVELS = 14


def plane(candidates: pd.DataFrame, pairs: pd.DataFrame) -> style.Plot:
    """The plane through three members of a pool: cross-entropy and accuracy of (1 - a - b) θ_1 + a θ_2 + b θ_3.

    Contours of the mean over the triples of a pool and then over pools, the unit of replication; the rows below have
    95% Student-t intervals. Distances and angles are those between weights, from the mean distances of the members.
    White marks are the three members, the black one is their uniform soup; darker is better in both panels. Contours
    and colors of cross-entropy are equal steps of its logarithm, so that differences near the members are visible.
    """
    rows = points(candidates)
    metrics = [name for name in QUANTITY if rows[name].notna().any()]
    if not metrics:
        raise NothingToDrawError("candidates", "no `plane` without failures")
    data = pd.concat([_means(rows, metric) for metric in metrics], ignore_index=True)
    populations = sorted(set(rows["population"]))
    figure, axes = style.grid(len(populations), len(metrics), height=3.2)
    for name, panels in zip(populations, axes, strict=True):
        own = rows[rows["population"] == name]
        place = corners(own, pairs)
        for metric, panel in zip(metrics, panels, strict=True):
            shown = data[(data["population"] == name) & (data["metric"] == metric) & (data["n_units"] > 0)]
            _panel(figure, panel, shown, place, metric)
        style.title(panels[0], name, style.recipe(own))
        panels[0].set_ylabel("distance")
    for panel in axes[-1]:
        panel.set_xlabel("distance from the first member to the second")
    return style.Plot(figure, data, style.pools(rows))


def _means(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean over pools of a metric at each point."""
    values = rows.assign(value=rows[metric], reason=exclusion_reason(rows, metric))
    return estimate_over_pools(values, ["population", "a", "b"], estimand=f"mean {metric}").assign(metric=metric)


def _panel(figure: Figure, axes: Axes, rows: pd.DataFrame, place: np.ndarray, metric: str) -> None:
    """Draw filled contours of one metric, with the members and their soup; nothing for points on one line."""
    rows = rows[np.isfinite(rows["estimate"])]
    if len(rows) < 3 or min(rows["a"].nunique(), rows["b"].nunique()) < 2:
        axes.axis("off")
        style.title(axes, "", "too few finite points")
        return
    xy = rows[["a", "b"]].to_numpy(float) @ place
    values = rows["estimate"].to_numpy(float) * (100 if metric == "accuracy" else 1)
    least = max(values.min(), 1e-6)
    most = max(values.max(), values.min() * 1.01, 2e-6)
    loss = metric == "cross_entropy"
    levels = np.geomspace(least, most, LEVELS) if loss else np.linspace(least, most, LEVELS)
    norm = LogNorm(least, most) if loss else Normalize(least, most)
    triangles = Triangulation(rows["a"], rows["b"]).triangles
    net = Triangulation(xy[:, 0], xy[:, 1], triangles)
    filled = axes.tricontourf(
        net, values.clip(least, most), levels=levels, norm=norm, cmap="cividis" if loss else "cividis_r"
    )
    bar = figure.colorbar(filled, cax=axes.inset_axes((1.03, 0, 0.04, 1)))
    bar.outline.set_visible(False)
    bar.minorticks_off()
    bar.set_label(QUANTITY[metric])
    bar.set_ticks([float(level) for level in levels[::3]], labels=[f"{level:.3g}" for level in levels[::3]])
    members = np.vstack([np.zeros(2), place])
    axes.plot(*members.T, "o", color="white", markeredgecolor=style.INK, markersize=6)
    axes.plot(*members.mean(0), "s", color=style.INK, markeredgecolor="white", markersize=6)
    axes.set_aspect("equal")
    axes.grid(visible=False)


METHOD = "plane"


def points(candidates: pd.DataFrame) -> pd.DataFrame:
    """The unscaled points of all planes, with `a` and `b`. Raises NothingToDrawError if there are none."""
    rows = candidates[candidates["method"] == METHOD]
    if rows.empty:
        raise NothingToDrawError("candidates", "no rows of `plane`", "add it to `methods`, over subsets of three")
    rows = select_split(rows)
    settings = [json.loads(text) for text in rows["settings"]]
    return rows.assign(a=[float(one["a"]) for one in settings], b=[float(one["b"]) for one in settings])


def corners(rows: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """Positions of the second and third member relative to the first, (2, 2), from the mean distances of all triples.

    The second lies to the right; angles are those between the weights.
    """
    require(pairs, [*UNIT, "member_a", "member_b", "l2_distance"])
    known = pairs.set_index([pairs["member_a"].astype(object), pairs["member_b"].astype(object)])["l2_distance"]
    triples = rows.drop_duplicates(["pool_id", "subset"])["members"]
    sides = np.array([[_distance(known, one[i], one[j]) for i, j in ((0, 1), (0, 2), (1, 2))] for one in triples])
    usable = sides[(np.isfinite(sides) & (sides > 0)).all(axis=1)]
    first, second, across = usable.mean(axis=0) if len(usable) else np.ones(3)
    along = (first**2 + second**2 - across**2) / (2 * first)
    return np.array([[first, 0.0], [along, np.sqrt(max(second**2 - along**2, 0.0))]])


def _distance(known: pd.Series, first: str, second: str) -> float:
    """The distance of two members in either order; NaN if it is not known."""
    return float(known.get((first, second), known.get((second, first), np.nan)))
