"""Distributions of weights by depth, from the input to the head."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from analysis.rows.select import named
from analysis.statistics.layers import layers as shapes

TITLE = "Inside: layers"

PANELS = (("std", "norm"), ("excess kurtosis", "scope mismatch"))
AXES = {
    "std": "standard deviation",
    "norm": "Euclidean norm",
    "excess kurtosis": "excess kurtosis",
    "scope mismatch": "scope mismatch (nats)",
}
LOGARITHMIC = ("std", "norm")


def layers(layers: pd.DataFrame) -> style.Plot:
    """Weights by depth: how large and how spread the entries of each tensor are, in members and in merges of them.

    Four measures of every weight tensor, from the input (left) to the head: standard deviation, norm, excess kurtosis
    (0 for a Gaussian) and scope mismatch, the distance between the Gaussians of two members of a pool. Grey crosses are
    single members; the other marks are merges of the largest number of members. A mean of dissimilar members shrinks:
    that is arithmetic and not a finding by itself. Lines are means over pools, the unit of replication, with 95%
    Student-t bands. The table also has biases and norms, other sizes, skewness, QQ correlation, variance ratios, and
    how far merges lie from their members.
    """
    if layers.empty:
        raise NothingToDrawError("layers", "no rows of tensors")
    data = shapes(layers)
    shown = _shown(data)
    looks = style.looks(shown.assign(space="weights"))
    populations = sorted(set(shown["population"]))
    figure, axes = style.grid(2 * len(populations), 2, height=2.0)
    for index, name in enumerate(populations):
        own = shown[shown["population"] == name]
        panels = axes[2 * index : 2 * index + 2]
        for quantities, row in zip(PANELS, panels, strict=True):
            for quantity, panel in zip(quantities, row, strict=True):
                _panel(panel, own[own["quantity"] == quantity], quantity, looks)
        style.title(panels[0, 0], name, style.recipe(layers[layers["population"] == name]))
        style.title(panels[0, 1], "", f"single members, and merges of {own['n_members'].max()}")
    for panel in axes[-1]:
        panel.set_xlabel("depth (position among the tensors)")
    style.key(figure, [Line2D([], [], label=label, **look) for label, look in looks.items()])
    return style.Plot(figure, data, style.pools(layers))


def _shown(data: pd.DataFrame) -> pd.DataFrame:
    """The weight tensors of single members and of the largest merges, with `label`."""
    weights = data[data["role"] == "weight"]
    rows = weights if len(weights) else data
    largest = rows.groupby("population")["n_members"].transform("max")
    rows = rows[(rows["n_members"] == 1) | (rows["n_members"] == largest)]
    pairs = zip(rows["method"], rows["settings"], rows["alignment"], rows["repair"], strict=True)
    return rows.assign(label=[_label(*pair) for pair in pairs])


def _label(method: str, settings: str, *steps: str | None) -> str:
    """A method with its settings, alignment and repair."""
    return " + ".join([named(method, settings), *(step for step in steps if step and step != "none")])


def _panel(axes: Axes, rows: pd.DataFrame, quantity: str, looks: dict[str, dict[str, Any]]) -> None:
    """Draw one line per label over the depth, with its band."""
    for label, look in looks.items():
        own = rows[(rows["label"] == label) & (rows["n_units"] > 0)].sort_values("depth")
        if len(own):
            axes.plot(own["depth"], own["estimate"], **look)
            style.band(axes, own["depth"], own["low"], own["high"], str(look["color"]))
    if quantity in LOGARITHMIC and (rows["estimate"] > 0).any():
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(AXES[quantity])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(axes.get_xlim()[0] - 0.5, axes.get_xlim()[1] + 0.5)
