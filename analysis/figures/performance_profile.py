"""Performance profiles of merges."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.display import style
from analysis.rows.select import MEAN_MEMBER, select_comparison, unscaled
from analysis.statistics._scores import ALL
from analysis.statistics.performance_profile import performance_profile as profiles

TITLE = "How often a merge is better than a threshold"


MOST_BANDS = 4


def performance_profile(candidates: pd.DataFrame) -> style.Plot:
    """Performance profiles: the share of pools whose gain over the mean member is above each threshold, by method.

    The gain is test accuracy minus that of the mean member on the subsets that all methods have, averaged inside each
    pool, which is the unit of replication. A curve that lies above another at every threshold belongs to the better
    method; curves that cross mean that one is better on average and the other more reliable. Its height at zero is the
    share of pools in which merging helps. Bands are 95% intervals at one threshold at a time, of a bootstrap over
    pools, which are too narrow for fewer than 6 pools; they are drawn for up to four methods, the table has all. With
    several populations the last panel is their mean.
    """
    rows = unscaled(select_comparison(candidates))
    data = profiles(rows, relative_to=MEAN_MEMBER)
    looks = {label: style.series(index) for index, label in enumerate(sorted(set(data["label"])))}
    panels = list(dict.fromkeys(data["population"]))
    figure, axes = style.grid(len(panels), 1, height=2.8)
    for name, (panel,) in zip(panels, axes, strict=True):
        _panel(panel, data[data["population"] == name], looks)
        about = "mean over populations" if name == ALL else style.recipe(rows[rows["population"] == name])
        style.title(panel, str(name), about)
        panel.set_ylabel("share of pools")
    axes[-1, 0].set_xlabel("threshold: gain over the mean member (points)")
    style.key(figure, [Line2D([], [], label=label, **look) for label, look in looks.items()])
    return style.Plot(figure, data, style.pools(rows))


def _panel(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw the curve of each method, and the bands if they are few."""
    axes.axvline(0, color=style.MUTED, linewidth=1)
    for label, look in looks.items():
        own = data[data["label"] == label].sort_values("threshold")
        axes.plot(own["threshold"] * 100, own["estimate"], **look)
        if len(looks) <= MOST_BANDS:
            style.band(axes, own["threshold"] * 100, own["low"], own["high"], look["color"])
    axes.set_ylim(-0.03, 1.03)
