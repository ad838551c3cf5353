"""Critical-difference diagram: average ranks of methods, and which of them differ."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.core.errors import NothingToDrawError
from analysis.display import numbers, style
from analysis.inference.rank_tests import indistinguishable
from analysis.rows.select import select_comparison, unscaled
from analysis.statistics._scores import ALL
from analysis.statistics.ranks import AVERAGE, ranks
from sweep.core.text import format_count

TITLE = "Which methods differ"

STEP = 0.42
"""Inches between the names of two methods at one side."""


SIDE = 0.25
"""Room for the names at each side, as a share of the axis."""


def critical_difference(candidates: pd.DataFrame) -> style.Plot:
    """Critical-difference diagram: the average rank of each method by test accuracy, 1 for the best, and which differ.

    Within every pool, the unit of replication, methods are ranked by their mean accuracy on the subsets that all of
    them have; ranks are averaged over the pools of a population. With several populations the last panel ranks methods
    within each population and averages over populations. Thick bars join methods whose average ranks differ by less
    than the critical difference (Nemenyi, family-wise .05), drawn at the left above the axis: these pools do not tell
    them apart, which does not mean that they are equal. Friedman's p tests that all methods are equal. A single pool
    has ranks but no test.
    """
    rows = unscaled(select_comparison(candidates))
    data = _ranks(rows)
    panels = list(dict.fromkeys(data["population"] if len(data) else []))
    most = int(data[data["quantity"] == AVERAGE].groupby("population").size().max())
    figure, axes = style.grid(len(panels), 1, height=1.3 + STEP * ((most + 1) // 2))
    for name, (panel,) in zip(panels, axes, strict=True):
        own = data[data["population"] == name]
        average = own[own["quantity"] == AVERAGE]
        _panel(panel, average)
        n = format_count(int(average["n_units"].iloc[0]), "population")
        about = n if name == ALL else style.recipe(rows[rows["population"] == name])
        style.title(panel, str(name), f"{about} · {_test(average)}")
    axes[-1, 0].set_xlabel("average rank (1 is best)")
    return style.Plot(figure, data, style.pools(rows))


def _ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """The ranks of each population, and of all if populations are two or more and share methods."""
    found = [ranks(rows)]
    if rows["population"].nunique() > 1:
        with contextlib.suppress(NothingToDrawError):
            found.append(ranks(rows, over="cells"))
    return pd.concat(found, ignore_index=True)


def _test(average: pd.DataFrame) -> str:
    """Friedman's p in words."""
    p = float(average["friedman_p"].iloc[0])
    return "no test" if np.isnan(p) else f"Friedman p {numbers.p_value(p)}"


def _panel(axes: Axes, average: pd.DataFrame) -> None:
    """Draw the axis with a mark per method, names at both sides, bars for groups, and the critical difference."""
    average = average.sort_values(["estimate", "label"])
    places = average["estimate"].to_numpy(float)
    k = len(places)
    left = (k + 1) // 2
    axes.set_xlim(1 - SIDE * k, k + SIDE * k)
    difference = float(average["critical_difference"].iloc[0])
    groups = indistinguishable(places, difference) if np.isfinite(difference) else []
    depth = 0.5 + 0.35 * len(groups)
    for level, (first, last) in enumerate(groups):
        height = -0.4 - 0.35 * level
        axes.plot([places[first] - 0.03, places[last] + 0.03], [height, height], color=style.INK, linewidth=3)
    for index, (place, label) in enumerate(zip(places, style.short(list(average["label"])), strict=True)):
        side = "left" if index < left else "right"
        height = -depth - (index if index < left else k - 1 - index) - 0.5
        end = axes.get_xlim()[0 if side == "left" else 1]
        axes.plot([place, place, end], [0, height, height], color=style.MUTED, linewidth=0.9)
        axes.annotate(label, (end, height), (0, 2), textcoords="offset points", ha=side, va="bottom", fontsize=8)
        axes.plot([place], [0], "o", color=style.POOLS[0], markersize=5, zorder=3)
    axes.axhline(0, color=style.INK, linewidth=1)
    if np.isfinite(difference):
        _ruler(axes, difference)
    axes.set_ylim(-depth - left - 0.1, 1.7)
    axes.set_xticks(range(1, k + 1))
    axes.set_yticks([])
    axes.set_ylabel("methods")
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


def _ruler(axes: Axes, difference: float) -> None:
    """Draw the critical difference above the axis, from rank 1."""
    width = min(difference, axes.get_xlim()[1] - 1)
    axes.plot([1, 1 + width], [0.7, 0.7], color=style.INK, linewidth=1.2, marker="|", markersize=6)
    text = f"critical difference {difference:.2f}"
    axes.annotate(text, (1, 0.7), (0, 4), textcoords="offset points", fontsize=8, color=style.MUTED)
