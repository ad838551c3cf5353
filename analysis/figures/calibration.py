"""Calibration of probabilities, before and after temperature scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from analysis.rows.select import POINTS, select_comparison, unscaled
from analysis.statistics.calibration import AFTER, CROSS_ENTROPY, DEBIASED
from analysis.statistics.calibration import calibration as measured
from sweep.core.text import format_count

TITLE = "Inside: calibration"

QUANTITIES = {CROSS_ENTROPY: "cross-entropy (nats)", DEBIASED: "debiased squared calibration error"}
WIDE = 10.0
"""Ratio of the largest to the smallest cross-entropy beyond which its axis is logarithmic."""
STEPS = {"as it is": "", "after temperature": AFTER}
ASIDE = 0.16
"""Vertical offset of the two estimates of a label."""


def calibration(candidates: pd.DataFrame, predictions: pd.DataFrame) -> style.Plot:
    """Calibration of each merge as it is, and after temperature scaling fitted to it on the validation split.

    Left: cross-entropy on the test split. Averaging logits or weights changes how sharp the probabilities are; only the
    part of a gain that remains after temperature scaling (filled marks) is information. Right: squared calibration
    error of the predicted class in 15 bins of equal mass, minus the amount expected by chance, so that calibrated
    probabilities scatter around zero and may lie below it.

    Rows are populations with their smallest and largest subset (the table has all sizes; the plain ECE over 15 bins of
    equal width, with its test; and that over bins of equal mass);
    `single` are the unmerged members. Bars are 95% Student-t intervals over pools, which are the unit of replication;
    the subsets of one pool are averaged first.
    """
    rows = unscaled(select_comparison(candidates))
    rows = rows[~rows["method"].isin(POINTS)]
    if rows.empty:
        raise NothingToDrawError("candidates", "no rows without a scaling")
    data = measured(rows, predictions)
    data = data[data["n_units"] > 0].reset_index(drop=True)
    looks = style.looks(data)
    cells = [cell for name in sorted(set(data["population"])) for cell in _sizes(data, name)]
    figure, axes = style.grid(len(cells), 2, height=0.8 + 0.26 * len(looks))
    for (name, size), panels in zip(cells, axes, strict=True):
        own = data[(data["population"] == name) & data["n_members"].isin([size, 1])]
        own = own[(own["n_members"] == size) | (own["label"] == "single")]
        for quantity, panel in zip(QUANTITIES, panels, strict=True):
            _panel(panel, own, quantity, looks)
        panels[0].set_ylabel("method")
        panels[1].tick_params(labelleft=False)
        members = format_count(size, "member")
        style.title(panels[0], f"{name}, {members}", style.recipe(rows[rows["population"] == name]))
    for quantity, panel in zip(QUANTITIES, axes[-1], strict=True):
        panel.set_xlabel(QUANTITIES[quantity])
    style.key(
        figure, [Line2D([], [], color=style.INK, label=label, **_mark(label)) for label in ("as it is", AFTER[1:])]
    )
    return style.Plot(figure, data, style.pools(rows))


def _sizes(data: pd.DataFrame, population: str) -> list[tuple[str, int]]:
    """The smallest and the largest subset of a population."""
    sizes = sorted(set(data.loc[data["population"] == population, "n_members"]) - {1}) or [1]
    return [(population, size) for size in dict.fromkeys([sizes[0], sizes[-1]])]


def _mark(step: str) -> dict[str, Any]:
    """Line properties: hollow before temperature scaling, filled after it."""
    return {"marker": "o", "linestyle": "none", "fillstyle": "full" if STEPS[step] else "none"}


def _panel(axes: Axes, data: pd.DataFrame, quantity: str, looks: dict[str, dict[str, Any]]) -> None:
    """Draw one line per label, its two estimates one above the other."""
    labels = [label for label in looks if label in set(data["label"])]
    for (step, suffix), shift in zip(STEPS.items(), (-ASIDE, ASIDE), strict=True):
        for place, label in enumerate(labels):
            own = data[(data["quantity"] == quantity + suffix) & (data["label"] == label)]
            half = np.where(np.isfinite(own["high"]), own["high"] - own["estimate"], np.nan)
            look = {"color": looks[label]["color"], **_mark(step)}
            axes.errorbar(own["estimate"], [place + shift] * len(own), xerr=half, capsize=2, elinewidth=1, **look)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    shown = data.loc[data["quantity"].isin([quantity, quantity + AFTER]), "estimate"]
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if quantity == DEBIASED:
        axes.axvline(0, color=style.MUTED, linewidth=1)
    elif shown.min() > 0 and shown.max() > WIDE * shown.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
