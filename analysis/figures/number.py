"""Gain against the number of members, what one more member adds, and how many are enough."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.core.errors import NothingToDrawError
from analysis.display import numbers, style
from analysis.rows.select import select_split
from analysis.statistics._growth import Curve
from analysis.statistics.curve import curves

TITLE = "How many models"

EPS = 0.001
"""What one more member must add."""


def number(candidates: pd.DataFrame) -> style.Plot:
    """Gain over the mean member against the number of members N, what one more member adds, and N*, per method.

    Top left: gains averaged over the subsets of a pool and then over pools. Their 95% band holds at all sizes of a
    method at once (max-t; pools are the unit of replication); between sizes it is a straight line, not a fitted law.
    Top right, where two sizes were evaluated: what one more member adds between two sizes, per member, with bars that
    hold for all steps of a method at once; the dashed line is 0.1 points.

    Bottom, where two sizes were evaluated: N*, the smallest measured size from which on every step is below 0.1 points,
    with every size that the bars allow. There is none if the gain does not grow, and none is shown if the largest size
    may not be enough.
    """
    found = curves(candidates, eps=EPS)
    data = pd.DataFrame([row for one in found for row in _estimates(one)])
    if data.empty:
        raise NothingToDrawError("candidates", "no merges whose single members were evaluated")
    looks = style.looks(data)
    rows = select_split(candidates)
    populations = sorted(set(data["population"]))
    figure, axes = style.grid(2 * len(populations), 2, height=2.6)
    for place, name in enumerate(populations):
        own = data[data["population"] == name]
        top = axes[2 * place]
        _gains(top[0], own, looks)
        _steps(top[1], own, looks)
        style.title(top[0], name, style.recipe(rows[rows["population"] == name]))
        style.title(top[1], "", "one more member, from N to N")
        _enough(_wide(axes[2 * place + 1]), own, looks)
    style.key(figure, [Line2D([], [], label=label, **look) for label, look in looks.items()])
    return style.Plot(figure, data, style.pools(rows))


def _wide(pair: np.ndarray) -> Axes:
    """One panel in the place of two beside each other."""
    grid = pair[0].get_gridspec()
    row = pair[0].get_subplotspec().rowspan.start
    figure = pair[0].figure
    for axes in pair:
        axes.remove()
    wide: Axes = figure.add_subplot(grid[row, :])
    return wide


def _estimates(one: Curve) -> list[dict[str, Any]]:
    """The gain at each size, the steps between sizes and N*; none without a gain in any pool."""
    gains = zip(one.merged, one.gains, strict=True)
    found: list[dict[str, Any]] = [
        {**one.key, "quantity": "gain", "n_members": float(n), **asdict(gain)} for n, gain in gains if gain.n_units
    ]
    steps = zip(one.merged, one.merged[1:], one.steps, strict=False)
    found += [
        {**one.key, "quantity": "step", "n_members": float(a), "next": float(b), **asdict(step)}
        for a, b, step in steps
        if step.n_units
    ]
    return [*found, {**one.key, "quantity": "N*", **asdict(one.enough)}] if found else []


def _gains(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw means with their simultaneous bands."""
    data = data[data["quantity"] == "gain"]
    for label in [label for label in looks if label in set(data["label"])]:
        own = data[data["label"] == label].sort_values("n_members")
        axes.plot(own["n_members"], own["estimate"] * 100, **looks[label])
        style.band(axes, own["n_members"], own["low"] * 100, own["high"] * 100, str(looks[label]["color"]))
    sizes = sorted(set(data["n_members"]))
    _log_axis(axes, sizes[0] * 0.9, sizes[-1] * 1.15)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.set_xlabel("members N")
    style.gain_axis(axes, data["estimate"])


def _steps(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw steps with their simultaneous bars, shifted sideways, and the line of `EPS`."""
    data = data[data["quantity"] == "step"]
    spans = sorted(set(zip(data["n_members"], data.get("next", []), strict=True)))
    labels = [label for label in looks if label in set(data["label"])]
    for index, label in enumerate(labels):
        own = data[data["label"] == label].sort_values("n_members")
        place = np.array([spans.index(pair) for pair in zip(own["n_members"], own["next"], strict=True)], float)
        apart = 0.6 * ((index + 0.5) / len(labels) - 0.5)
        style.whiskers(axes, place + apart, own, 100, {**looks[label], "linestyle": "none"})
    axes.axhline(0, color=style.MUTED, linewidth=1)
    axes.axhline(100 * EPS, color=style.MUTED, linewidth=1, linestyle="--")
    axes.set_xticks(range(len(spans)), [f"{a:g}→{b:g}" for a, b in spans])
    axes.set_ylabel("gain per member more\n(points)")
    if not spans:
        axes.annotate("no steps: needs two sizes", (0.5, 0.5), xycoords="axes fraction", ha="center")


def _log_axis(axes: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic, with ticks at whole numbers."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _enough(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw N* of each method with its interval, and write it, or why there is none, above it."""
    sizes = sorted(set(data.loc[data["quantity"] == "gain", "n_members"]))
    most = sizes[-1] * 1.15
    stars = data[data["quantity"] == "N*"].set_index("label")
    labels = [label for label in looks if label in set(stars.index)]
    for place, label in enumerate(labels):
        row = stars.loc[label]
        look = looks[label]
        low, high = (min(end, most) if math.isfinite(row["low"]) else np.nan for end in (row["low"], row["high"]))
        axes.plot([low, high], [place, place], color=look["color"], linewidth=1, marker="|", markersize=5)
        if row["high"] > most and math.isfinite(low):
            axes.plot(most, place, marker=">", color=look["color"], clip_on=False)
        axes.plot(row["estimate"], place, **{**look, "linestyle": "none"})
        text = f"{style.short(labels)[place]}: {_answer(row)}"
        axes.annotate(text, (sizes[0], place), (2, 6), textcoords="offset points", fontsize=8, color=style.INK)
    axes.set_ylim(len(labels) - 0.4, -0.9)
    axes.set_yticks([])
    _log_axis(axes, sizes[0] * 0.9, most)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.set_ylabel("method")
    axes.set_xlabel("N*: from here on, one more member adds < 0.1 points")


def _answer(row: pd.Series) -> str:
    """N* in words."""
    if math.isfinite(row["estimate"]):
        return f"N* = {numbers.whole(row['estimate'])} [{numbers.whole(row['low'])}, {numbers.whole(row['high'])}]"
    pays = [text for text in row["warnings"] if text.startswith("merging more")]
    if pays:
        return str(pays[0]).partition(":")[0]
    return f"not identified: {numbers.whole(row['low'])} or more" if math.isfinite(row["low"]) else "no N*: one size"
