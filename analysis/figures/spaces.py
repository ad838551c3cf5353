"""Weights against features against logits."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis import style
from analysis.errors import NothingToDrawError
from analysis.frames import MEAN_MEMBER, comparable, unscaled, with_mean_member
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.pool_means import pool_means

CROWDED = 25.0
"""Points of gain beyond which its axis turns logarithmic: one collapse must not flatten the rest."""


def spaces(candidates: pd.DataFrame) -> style.Plot:
    """Averaging weights, features or logits: accuracy of each merge, and its gain over the mean member, by subset size.

    Left: test accuracy, averaged over the subsets of a pool and then over pools; the grey line is the mean of the
    subsets' single members. Right: the paired difference to that mean on the same subsets, in percentage points; above
    the line, merging pays. Bars are 95% Student-t intervals over pools, which are the unit of replication; subsets of
    one pool share members and are not counted as independent. Marks of one size are set side by side to be told apart.
    """
    rows = with_mean_member(unscaled(comparable(candidates)))
    rows = rows[(rows["n_members"] > 1) & (rows["method"] != "interpolation")]
    if rows.empty:
        raise NothingToDrawError("candidates", "no merges of two or more members without scaling")
    data = _estimates(rows)
    looks = style.looks(data)
    populations = sorted(set(data["population"]))
    figure, axes = style.grid(len(populations), 2)
    for name, (left, right) in zip(populations, axes, strict=True):
        own = data[data["population"] == name]
        _panel(left, own[own["quantity"] == "accuracy"], looks)
        _panel(right, own[own["quantity"] == "gain"], looks)
        style.title(left, name, style.recipe(rows[rows["population"] == name]))
        left.set_ylabel("accuracy (%)")
        _gain_axis(right, own)
    for panel in axes[-1]:
        panel.set_xlabel("members in the subset")
    handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    style.key(figure, handles)
    return style.Plot(figure, data, style.pools(rows))


def _estimates(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and gain over the mean member, per population, label and subset size."""
    by = ["population", "n_members", "space", "label"]
    levels = pool_means(rows, by=by).assign(quantity="accuracy")
    by = ["population", "n_members", "space"]
    labels = sorted(set(rows["label"]) - {MEAN_MEMBER})
    pairs = {label: paired_difference(rows, label, MEAN_MEMBER, by=by) for label in labels}
    gains = [frame.assign(label=label, quantity="gain") for label, frame in pairs.items()]
    return pd.concat([levels, *gains], ignore_index=True)


def _panel(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """One line per label; sizes are evenly spaced, labels of one size set side by side."""
    sizes = sorted(set(data["n_members"]))
    place = {size: position for position, size in enumerate(sizes)}
    labels = [label for label in looks if label in set(data["label"])]
    for index, label in enumerate(labels):
        own = data[data["label"] == label].sort_values("n_members")
        shift = (index - (len(labels) - 1) / 2) * min(0.09, 0.6 / len(labels))
        style.whiskers(axes, own["n_members"].map(place) + shift, own, 100, looks[label])
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlim(-0.5, len(sizes) - 0.5)


def _gain_axis(axes: Axes, data: pd.DataFrame) -> None:
    """Points of gain with a line at zero; logarithmic beyond 5 points where one method collapses."""
    axes.axhline(0, color=style.MUTED, linewidth=1)
    axes.set_ylabel("gain over mean member (points)")
    gains = data.loc[data["quantity"] == "gain", "estimate"].abs()
    if gains.max() * 100 > CROWDED:
        axes.set_yscale("symlog", linthresh=5)
        axes.set_ylim(*(end * 1.3 for end in axes.get_ylim()))
        ticks = [tick for tick in (-80, -40, -20, -10, -5, 0, 5, 10, 20, 40) if _within(axes, tick)]
        axes.set_yticks(ticks, [f"{tick:+d}".replace("-", "\N{MINUS SIGN}") if tick else "0" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylabel("gain over mean member\n(points, log beyond ±5)")


def _within(axes: Axes, value: float) -> bool:
    """Whether a value lies on the vertical axis."""
    low, high = axes.get_ylim()
    return low <= value <= high
