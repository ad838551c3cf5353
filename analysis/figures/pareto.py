"""Accuracy against cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.core.errors import NothingToDrawError
from analysis.display import numbers, style
from analysis.rows.select import POINTS, select_comparison, unscaled
from analysis.statistics.pareto import pareto as costs

TITLE = "What it costs"

SPREAD = 0.32
"""Width, in doublings of cost, over which merges of one cost are shifted sideways, if the next cost leaves room."""


def pareto(candidates: pd.DataFrame, members: pd.DataFrame) -> style.Plot:
    """Accuracy against cost: test accuracy of each merge, by the number of networks that evaluate one example.

    Merged weights are one network for any number of members; averaged features or logits need one network per member,
    in forward FLOPs and in storage. Numbers beside the marks count the members; merges of equal cost are shifted
    sideways. The line is the Pareto front of the means over pools: no merge is better at the same cost, and none is as
    good at a lower cost. Bars are 95% Student-t intervals over pools, the unit of replication. Rings mark merges on the
    front; the table gives the share of resamples of the pools in which each merge is on the front, as a description and
    not a test. A dotted line is chance, drawn where an accuracy is nearer to it than to 100%. Time for training,
    merging and searching is in the table, not on the axis.
    """
    rows = unscaled(select_comparison(candidates))
    rows = rows[~rows["method"].isin(POINTS)]
    if rows.empty:
        raise NothingToDrawError("candidates", "no rows without a scaling")
    data = costs(rows, members)
    looks = style.looks(data)
    populations = sorted(set(data["population"]))
    figure, axes = style.grid(len(populations), 1, height=3.2)
    for name, (panel,) in zip(populations, axes, strict=True):
        own = data[data["population"] == name]
        _panel(panel, own, looks)
        style.chance_line(panel, rows[rows["population"] == name], own["estimate"].min())
        style.title(panel, name, f"{style.recipe(rows[rows['population'] == name])}{_one_network(own)}")
        panel.set_ylabel("accuracy (%)")
    axes[-1, 0].set_xlabel("networks per example (log)")
    handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    style.key(figure, [*handles, Line2D([], [], label="front", color=style.INK, linewidth=1)])
    return style.Plot(figure, data, style.pools(rows))


def _panel(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw one mark with its bar per merge, and the front behind them."""
    known = data[data["estimate"].notna()].sort_values(["networks", "space", "label", "n_members"])
    place = _places(known)
    labels = [label for label in looks if label in set(known["label"])]
    for label in labels:
        own = known[known["label"] == label]
        look = {**looks[label], "linestyle": "none"}
        style.whiskers(axes, place[own.index], own, 100, look)
    for row in known[known["n_members"] > 1].itertuples():
        where = (place[row.Index], row.estimate * 100)
        axes.annotate(str(row.n_members), where, (6, 4), textcoords="offset points", fontsize=7, color=style.MUTED)
    _front(axes, known[known["on_front"]], place)
    ticks = sorted(set(known["networks"])) or [1]
    axes.set_xscale("log", base=2)
    axes.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _places(data: pd.DataFrame) -> pd.Series:
    """x position of each row: merges of equal cost are shifted sideways, by less than the gap to the next cost."""
    rank = data.groupby("networks").cumcount()
    count = data.groupby("networks")["networks"].transform("size")
    shift = np.where(count > 1, rank / np.maximum(count - 1, 1) - 0.5, 0.0)
    gaps = np.diff(np.log2(sorted(set(data["networks"]))))
    return data["networks"] * 2.0 ** (shift * min(SPREAD, 0.6 * gaps.min(initial=np.inf)))


def _front(axes: Axes, front: pd.DataFrame, place: pd.Series) -> None:
    """Draw a step line through the front, and rings around the merges on it."""
    front = front.sort_values("networks")
    x = place[front.index]
    y = front["estimate"] * 100
    axes.plot(x, y, color=style.INK, linewidth=1, drawstyle="steps-post", zorder=1)
    axes.plot(x, y, "o", color=style.INK, fillstyle="none", markersize=11, markeredgewidth=0.9)


def _one_network(data: pd.DataFrame) -> str:
    """The size and cost of one network, if known."""
    networks = data["networks"]
    size, flops = ((data[name] / networks).dropna() for name in ("stored_parameters", "forward_flops"))
    texts = [f"{numbers.whole(size.iloc[0])} parameters"] if len(size) else []
    texts += [f"{_short(flops.iloc[0])}FLOP per example"] if len(flops) else []
    return f" · one network: {', '.join(texts)}" if texts else ""


def _short(value: float) -> str:
    """A number in thousands, millions and so on: `1.2 G`."""
    power = int(np.clip(np.log10(max(value, 1.0)) // 3, 0, 4))
    return f"{value / 1000**power:.3g} {('', 'k', 'M', 'G', 'T')[power]}"
