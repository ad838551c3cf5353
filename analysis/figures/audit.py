"""How each defect of the published protocol changes the comparison of spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from analysis.rows.protocols import protocols, rows_under, short
from analysis.rows.select import MEAN_MEMBER, POINTS, select_comparison, unscaled, with_mean_member
from analysis.statistics._difference import over_images
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.pool_means import pool_means
from analysis.statistics.two_way_difference import two_way_difference

TITLE = "Defects of the published protocol"


def audit(candidates: pd.DataFrame, predictions: pd.DataFrame | None = None) -> style.Plot:
    """Do findings survive the defects of the published protocol: accuracy of single models and gains of merges.

    Left: test accuracy of single members, averaged over a pool and then over pools. Middle and right: gains of merges
    in weight space, and of ensembles, over the mean member, in percentage points, on the largest subsets. The first
    line is the correct protocol; below it are each defect alone and several together. Where a defect changes nothing,
    the correct rows are used. For defects of the training, members are trained again from the same seeds. Bars are 95%
    Student-t intervals over pools, the unit of replication; those of gains are for new test images as well where
    predictions are kept.
    """
    rows = unscaled(select_comparison(candidates, by=("protocol",)))
    rows = rows[~rows["method"].isin(POINTS)]
    if rows.empty or not (rows["n_members"] > 1).any():
        raise NothingToDrawError("candidates", "no merges of two or more members without scaling")
    order = protocols(rows)
    data = pd.concat(
        [_estimates(rows_under(rows, name), predictions).assign(protocol=name) for name in order], ignore_index=True
    )
    looks = style.looks(data)
    populations = sorted(set(data["population"]))
    figure, axes = style.grid(len(populations), 3, height=0.9 + 0.28 * len(order))
    for name, panels in zip(populations, axes, strict=True):
        own = data[data["population"] == name]
        style.title(panels[0], name, style.recipe(rows[rows["population"] == name]))
        for panel, kind in zip(panels, ("single", "weights", "ensembles"), strict=True):
            _panel(panel, own[own["kind"] == kind], order, looks)
        for panel in panels[1:]:
            panel.axvline(0, color=style.MUTED, linewidth=1)
            panel.set_yticklabels([])
        panels[0].set_ylabel("protocol")
    for panel, text in zip(
        axes[-1], ("single: accuracy (%)", "soups: gain (points)", "ensembles: gain (points)"), strict=True
    ):
        panel.set_xlabel(text)
    style.key(figure, [Line2D([], [], label=label, **look) for label, look in looks.items()])
    return style.Plot(figure, data, style.pools(rows_under(rows, order[0])))


def _estimates(rows: pd.DataFrame, predictions: pd.DataFrame | None) -> pd.DataFrame:
    """Accuracy of single members, and gains over the mean member in the largest subsets, per population and label."""
    level = pool_means(rows[rows["method"] == "single"], by=["population", "space", "label"]).assign(kind="single")
    merges = with_mean_member(rows)
    largest = merges.groupby("population")["n_members"].transform("max")
    merges = merges[(merges["n_members"] == largest) & (largest > 1)]
    labels = merges.loc[merges["label"] != MEAN_MEMBER, ["label", "space"]].drop_duplicates()
    gains = [
        _difference(merges, predictions, label).assign(
            label=label, space=space, kind="weights" if space == "weights" else "ensembles"
        )
        for label, space in labels.itertuples(index=False)
    ]
    return pd.concat([level, *gains], ignore_index=True)


def _difference(rows: pd.DataFrame, predictions: pd.DataFrame | None, label: str) -> pd.DataFrame:
    """The gain of a label over the mean member, for new test images where predictions are kept."""
    by = ["population"]
    found = paired_difference(rows, label, MEAN_MEMBER, by=by)
    return over_images(found, predictions, lambda known: two_way_difference(rows, known, label, MEAN_MEMBER, by=by))


def _panel(axes: Axes, data: pd.DataFrame, order: list[str], looks: dict[str, dict[str, Any]]) -> None:
    """Draw one line per protocol from the top; the labels of one protocol are shifted against each other."""
    labels = [label for label in looks if label in set(data["label"])]
    for index, label in enumerate(labels):
        own = data[data["label"] == label]
        place = own["protocol"].map(order.index) + (index - (len(labels) - 1) / 2) * 0.22
        half = np.where(np.isfinite(own["high"]), (own["high"] - own["estimate"]) * 100, np.nan)
        look = {**looks[label], "linestyle": ""}
        axes.errorbar(own["estimate"] * 100, place, xerr=half, capsize=2, elinewidth=1, **look)
    axes.set_yticks(range(len(order)), [short(name) for name in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
