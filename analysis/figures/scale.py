"""Accuracy when members' weights are multiplied before merging."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from analysis.display import style
from analysis.rows.scale import magnified
from analysis.rows.select import select_comparison
from analysis.statistics.pool_means import pool_means

TITLE = "Sensitivity to magnitude"

WORDS = {
    "all": "all members",
    "first": "first member",
    "last": "last member",
    "all_but_first": "all but the first",
    "all_but_last": "all but the last",
}

FEW = 9
"""Largest number of ticks of an axis."""


def scale(candidates: pd.DataFrame) -> style.Plot:
    """Sensitivity to magnitude: accuracy when members' weights are multiplied by a factor before they are merged.

    Factors are on a logarithmic axis; the dashed line is 1 (unscaled). Columns are the members that are multiplied:
    all, or only the first, the last, and so on. Rows are populations, with the smallest and the largest scaled subset
    (the table has all sizes). The dotted line is chance, the share of the largest class: a merge that lies there at
    factor 1 has nothing to lose, so that a flat line is no sign of robustness. Lines are means over pools, the unit of
    replication, with 95% Student-t bands. A cross at the bottom marks a factor at which outputs of some rows
    overflowed: these rows have no accuracy, and the line at that factor, if any, is the mean of the finite rows only.
    Grey: single members, unmerged.
    """
    rows = magnified(select_comparison(candidates))
    data = pool_means(rows, by=["population", "n_members", "arm", "scaling_factor", "space", "label"])
    overflows = rows[rows["status"] == "non_finite"].groupby(list(data.columns[:6])).size().rename("non_finite")
    data = data.merge(overflows.reset_index(), "left").fillna({"non_finite": 0}).astype({"non_finite": int})
    looks = style.looks(data)
    cells = [cell for name in sorted(set(data["population"])) for cell in _sizes(data, name)]
    arms = [*(arm for arm in WORDS if arm in set(data["arm"])), *sorted(set(data["arm"]) - set(WORDS))]
    factors = sorted(set(data["scaling_factor"]))
    figure, axes = style.grid(len(cells), len(arms), height=2.2, share="row")
    for (name, size), panels in zip(cells, axes, strict=True):
        own = data[(data["population"] == name) & data["n_members"].isin([size, 1])]
        for arm, panel in zip(arms, panels, strict=True):
            _panel(panel, own[own["arm"] == arm], looks)
            style.chance_line(panel, rows[rows["population"] == name])
            _factor_axis(panel, factors)
            first = arm == arms[0]
            style.title(panel, f"{name}, {size} members" if first else "", f"{WORDS.get(arm, arm)} scaled")
        panels[0].set_ylabel("accuracy (%)")
    for panel in axes[-1]:
        panel.set_xlabel("factor on the weights")
    style.key(figure, [Line2D([], [], label=label, **look) for label, look in looks.items()])
    return style.Plot(figure, data, style.pools(rows))


def _sizes(data: pd.DataFrame, population: str) -> list[tuple[str, int]]:
    """The smallest and the largest size of a scaled subset of a population."""
    sizes = sorted(set(data.loc[(data["population"] == population), "n_members"]) - {1}) or [1]
    return [(population, size) for size in dict.fromkeys([sizes[0], sizes[-1]])]


def _panel(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw one line per label with its band, and crosses at the bottom where rows are not finite."""
    axes.axvline(1, color=style.MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    bottom = axes.get_xaxis_transform()
    for index, (label, look) in enumerate(looks.items()):
        own = data[data["label"] == label].sort_values("scaling_factor")
        line = own[own["n_units"] > 0]
        if len(line):
            axes.plot(line["scaling_factor"], line["estimate"] * 100, **look)
            style.band(axes, line["scaling_factor"], line["low"] * 100, line["high"] * 100, str(look["color"]))
        overflows = own.loc[own["non_finite"] > 0, "scaling_factor"]
        if len(overflows):
            height = np.full(len(overflows), 0.03 + 0.05 * (index % 4))
            axes.plot(overflows, height, "x", color=look["color"], transform=bottom, markersize=5, clip_on=False)


def _factor_axis(axes: Axes, factors: list[float]) -> None:
    """Make the x axis logarithmic over all factors of the figure, with a tick at each factor if they are few."""
    axes.set_xscale("log")
    axes.set_xlim(min(factors) / 1.3, max(factors) * 1.3)
    base = 10 if factors[-1] / factors[0] > 100 else 2
    axes.xaxis.set_major_locator(FixedLocator(factors) if len(factors) <= FEW else LogLocator(base, numticks=FEW))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
