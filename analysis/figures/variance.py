"""Sources of the variance between results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from analysis.rows.select import POINTS, select_comparison, unscaled
from analysis.statistics.variance import variance as components

TITLE = "Where the variance comes from"

LOOKS: dict[str, dict[str, Any]] = {
    "pool": {"facecolor": style.POOLS[0], "hatch": ""},
    "member": {"facecolor": style.POOLS[1], "hatch": "///"},
    "subset": {"facecolor": style.POOLS[2], "hatch": "..."},
    "init": {"facecolor": style.POOLS[3], "hatch": "\\\\\\"},
    "order": {"facecolor": style.POOLS[4], "hatch": "xxx"},
    "residual": {"facecolor": style.POOLS[5], "hatch": "|||"},
}
"""Color, and hatching for grey print and color-blind readers."""
MARKS = {"pool": "o", "member": "s", "subset": "^", "init": "D", "order": "v", "residual": "P"}
BAR = 0.3
"""Height of one method in inches."""


def variance(candidates: pd.DataFrame, members: pd.DataFrame) -> style.Plot:
    """Where accuracies differ: between pools, between members of a pool, or between subsets beyond their members.

    Left, the shares of the variance of accuracy: of pools (their start and common seeds), of members (their own seeds;
    split into init, order and residual if those are crossed) and of the subset itself. Estimates by moments may be
    negative; these are drawn as zero. Right, the same components in squared points with 95% intervals (Student's t on
    the jackknife that leaves out one pool; arrows mark intervals that go beyond the axis). Pools are the unit of
    replication, so a method whose variance lies between pools needs more pools, not more subsets; with few pools the
    variance between pools is known only roughly, as the intervals show.
    """
    rows = unscaled(select_comparison(candidates))
    rows = rows[~rows["method"].isin(POINTS)]
    if rows.empty:
        raise NothingToDrawError("candidates", "no rows without a scaling")
    data = components(rows, members)
    rows = rows.astype({"space": object, "label": object})
    populations = sorted(set(data["population"]))
    most = int(data.groupby("population")["label"].nunique().max())
    figure, axes = style.grid(len(populations), 2, height=0.9 + BAR * most)
    for name, (left, right) in zip(populations, axes, strict=True):
        own = data[data["population"] == name]
        labels = [label for label in style.looks(rows[rows["population"] == name]) if label in set(own["label"])]
        _bars(left, own, labels)
        _components(right, own, labels)
        style.title(left, name, style.recipe(rows[rows["population"] == name]))
    axes[-1, 0].set_xlabel("share of the variance (%)")
    axes[-1, 1].set_xlabel("variance (squared points)")
    _key(figure, data)
    return style.Plot(figure, data, style.pools(rows))


def _bars(axes: Axes, data: pd.DataFrame, labels: list[str]) -> None:
    """Draw one bar per label, its components stacked to 100%."""
    for place, label in enumerate(labels):
        own = data[data["label"] == label]
        drawn = own["share"].clip(lower=0)
        if drawn.isna().any():
            axes.text(1, place, "cannot be separated", va="center", color=style.MUTED, fontsize=8)
            continue
        widths = (100 * drawn / drawn.sum()).to_numpy(np.float64)
        starts = np.concatenate([[0.0], np.cumsum(widths)[:-1]])
        for quantity, start, width in zip(own["quantity"], starts, widths, strict=True):
            axes.barh(place, width, 0.7, left=start, edgecolor="white", linewidth=0.6, **LOOKS[quantity])
    _rows(axes, labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylabel("method")
    axes.set_xlim(0, 100)


def _components(axes: Axes, data: pd.DataFrame, labels: list[str]) -> None:
    """Draw each component with its interval, those of one label below each other."""
    known = data[data["estimate"].notna()]
    top = 2.5 * float(known["estimate"].max()) if len(known) and known["estimate"].max() > 0 else 1.0
    low = min(-0.08 * top, 1.2 * float(known["estimate"].min())) if len(known) else -0.08
    for place, label in enumerate(labels):
        own = known[known["label"] == label]
        steps = np.linspace(-0.24, 0.24, max(len(own), 2))
        for row, step in zip(own.itertuples(), steps, strict=False):
            _whisker(axes, row, place + step, (low, top))
    axes.axvline(0, color=style.MUTED, linewidth=0.8)
    _rows(axes, labels)
    axes.set_yticks([])
    axes.set_xlim(low, top)


def _whisker(axes: Axes, row: Any, place: float, limits: tuple[float, float]) -> None:
    """Draw one estimate with its interval, and an arrowhead where the interval leaves the panel."""
    colour = LOOKS[row.quantity]["facecolor"]
    if np.isfinite(row.high):
        ends = np.clip([row.low, row.high], *limits)
        axes.plot(ends, [place, place], color=colour, linewidth=1.2)
        for end, reached, head in ((row.low, ends[0], "<"), (row.high, ends[1], ">")):
            if end != reached:
                axes.plot([reached], [place], head, color=colour, markersize=4, clip_on=False)
    axes.plot([row.estimate], [place], MARKS[row.quantity], color=colour, markersize=4.5)


def _rows(axes: Axes, labels: list[str]) -> None:
    """Set the y limits to one line per label, the first at the top."""
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(False, axis="y")


def _key(figure: Figure, data: pd.DataFrame) -> None:
    """Draw the legend of the components."""
    shown = [name for name in LOOKS if name in set(data["quantity"])]
    handles: list[Any] = [Patch(edgecolor="white", label=name, **LOOKS[name]) for name in shown]
    style.key(figure, handles, columns=6)
