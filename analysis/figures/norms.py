"""Averaging against smaller weights."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.display import style
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.norms import norm_arms
from analysis.rows.select import UNIT

TITLE = "Averaging, or smaller weights"

SHOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "soup": ("the soup", {"color": style.SPACES["weights"], "marker": "o"}),
    "grown": ("the soup at its members' norm", {"color": style.SPACES["weights"], "marker": "o", "fillstyle": "none"}),
    "shrunk": ("the member at the soup's norm", {"color": style.SPACES["members"], "marker": "x"}),
}
"""Arm -> text of the legend, and line properties."""


def norms(candidates: pd.DataFrame) -> style.Plot:
    """Is a soup better for being averaged, or for being smaller: each at the other's norm, by subset size.

    Accuracy minus that of the first member of the subset, in percentage points. A soup has a smaller norm than its
    members, tensor by tensor. If the smaller norm were what helps, the soup at its members' norm would gain nothing,
    and the member at the soup's norm would gain as much as the soup. Bars are 95% Student-t intervals over pools, the
    unit of replication, of the mean over a pool's subsets. The arms share subsets, so their differences are less
    uncertain than their bars suggest.
    """
    arms, _ = norm_arms(candidates)
    data = _estimates(arms)
    populations = sorted(set(data["population"]))
    figure, axes = style.grid(len(populations), 1)
    for name, (panel,) in zip(populations, axes, strict=True):
        own = data[data["population"] == name]
        _panel(panel, own)
        style.title(panel, name, style.recipe(candidates[candidates["population"] == name]))
        style.gain_axis(panel, own["estimate"])
        panel.set_ylabel("gain over the member (points)")
    axes[-1][0].set_xlabel("members in the subset")
    style.key(figure, [Line2D([], [], label=text, linestyle="", **look) for text, look in SHOWN.values()])
    return style.Plot(figure, data, style.pools(arms))


def _estimates(arms: pd.DataFrame) -> pd.DataFrame:
    """Gain of each arm over the member, per population and subset size."""
    by = ["population", "n_members", "arm"]
    parts = [arms[[*UNIT, "n_members"]].assign(arm=arm, value=arms[arm] - arms["member"], reason="") for arm in SHOWN]
    return estimate_over_pools(pd.concat(parts), by, estimand="accuracy minus that of the first member", noun="subset")


def _panel(axes: Axes, data: pd.DataFrame) -> None:
    """Draw the gains; sizes are evenly spaced, and the arms of one size are shifted sideways."""
    sizes = sorted(set(data["n_members"]))
    place = {size: position for position, size in enumerate(sizes)}
    for index, (arm, (_, look)) in enumerate(SHOWN.items()):
        own = data[data["arm"] == arm].sort_values("n_members")
        style.whiskers(axes, own["n_members"].map(place) + 0.12 * (index - 1), own, 100, {**look, "linestyle": ""})
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlim(-0.5, len(sizes) - 0.5)
