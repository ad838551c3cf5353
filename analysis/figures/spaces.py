"""Weights against features against logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from analysis.rows.select import MEAN_MEMBER, POINTS, select_comparison, unscaled, with_mean_member
from analysis.statistics._difference import over_images
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.pool_means import pool_means
from analysis.statistics.two_way_difference import two_way_difference

TITLE = "Weights, features or logits"


def spaces(candidates: pd.DataFrame, predictions: pd.DataFrame | None = None) -> style.Plot:
    """Averaging weights, features or logits: accuracy of each merge, and its gain over the mean member, by subset size.

    Left: test accuracy, averaged over the subsets of a pool and then over pools; the grey line is the mean of the
    single members of the subsets, a dotted line is chance, drawn where an accuracy is nearer to it than to 100%. Right:
    the paired difference to that mean on the same subsets, in percentage points; above zero, merging helps. Bars are
    95% Student-t intervals over pools, which are the unit of replication; those of the gain are for new test images as
    well where predictions are kept, those of the accuracy for these images; subsets of one pool share members and are
    not counted as independent. With a single pool, the interval of the gain comes from leaving out each member in turn.
    Marks of one size are shifted sideways so that they do not overlap.
    """
    rows = with_mean_member(unscaled(select_comparison(candidates)))
    rows = rows[(rows["n_members"] > 1) & ~rows["method"].isin(POINTS)]
    if rows.empty:
        raise NothingToDrawError("candidates", "no merges of two or more members without scaling")
    data = _estimates(rows, predictions)
    looks = style.looks(data)
    populations = sorted(set(data["population"]))
    figure, axes = style.grid(len(populations), 2)
    for name, (left, right) in zip(populations, axes, strict=True):
        own = data[data["population"] == name]
        accuracy = own[own["quantity"] == "accuracy"]
        _panel(left, accuracy, looks)
        style.chance_line(left, rows[rows["population"] == name], accuracy["estimate"].min())
        _panel(right, own[own["quantity"] == "gain"], looks)
        style.title(left, name, style.recipe(rows[rows["population"] == name]))
        left.set_ylabel("accuracy (%)")
        style.gain_axis(right, own.loc[own["quantity"] == "gain", "estimate"])
    for panel in axes[-1]:
        panel.set_xlabel("members in the subset")
    handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    style.key(figure, handles)
    alone = " Its gain has one over members, for members of this pool." if (data["unit"] == "member").any() else ""
    return style.Plot(figure, data, style.pools(rows) + alone)


def _estimates(rows: pd.DataFrame, predictions: pd.DataFrame | None) -> pd.DataFrame:
    """Accuracy and gain over the mean member, per population, label and subset size."""
    by = ["population", "n_members", "space", "label"]
    levels = pool_means(rows, by=by).assign(quantity="accuracy")
    by = ["population", "n_members", "space"]
    labels = sorted(set(rows["label"]) - {MEAN_MEMBER})
    pairs = {label: _difference(rows, predictions, label, by) for label in labels}
    gains = [frame.assign(label=label, quantity="gain") for label, frame in pairs.items()]
    return pd.concat([levels, *gains], ignore_index=True)


def _difference(rows: pd.DataFrame, predictions: pd.DataFrame | None, label: str, by: Sequence[str]) -> pd.DataFrame:
    """The difference of a label and the mean member, for new test images where predictions are kept."""
    found = paired_difference(rows, label, MEAN_MEMBER, by=by)
    return over_images(found, predictions, lambda known: two_way_difference(rows, known, label, MEAN_MEMBER, by=by))


def _panel(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw one line per label; sizes are evenly spaced, and labels of one size are shifted sideways."""
    sizes = sorted(set(data["n_members"]))
    place = {size: position for position, size in enumerate(sizes)}
    labels = [label for label in looks if label in set(data["label"])]
    for index, label in enumerate(labels):
        own = data[data["label"] == label].sort_values("n_members")
        shift = (index - (len(labels) - 1) / 2) * min(0.09, 0.6 / len(labels))
        style.whiskers(axes, own["n_members"].map(place) + shift, own, 100, looks[label])
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlim(-0.5, len(sizes) - 0.5)
