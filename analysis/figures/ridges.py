"""The weights of each tensor as a histogram, from the input to the head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.core.errors import NothingToDrawError
from analysis.display import style

TITLE = "Inside: the distribution of weights"

REACH = 4.0
"""Standard deviations that a histogram covers on each side of the mean."""
FINE = {20_000: 1, 5_000: 2, 0: 4}
"""Smallest number of entries -> bins drawn as one: few entries make ragged ridges."""
HEIGHT = 1.5
"""Height of the tallest ridge, in units of depth."""


def ridges(layers: pd.DataFrame) -> style.Plot:
    """How weights are distributed by depth: histograms of each weight tensor, from the input (top) to the head.

    The first member of the first pool (grey) and the largest uniform soup whose first member it is: an example from
    one pool; the figure `layers` shows all pools with intervals. All entries are in units of that member's standard
    deviation in the same tensor, so a narrower ridge means that the soup has shrunk. The dotted line is the Gaussian
    with the member's mean and standard deviation; areas are equal.
    """
    rows = layers[layers["histogram"].notna() & (layers["role"] == "weight")] if len(layers) else layers
    members = rows[rows["kind"] == "member"]
    if members.empty:
        raise NothingToDrawError("layers", "no histograms of weights")
    populations = sorted(set(members["population"]))
    most = int(members.groupby("population", observed=True).size().max())
    columns = max(1, min(len(populations), 3, 90 // max(map(len, populations))))
    lines = -(-len(populations) // columns)
    figure, axes = style.grid(lines, columns, height=max(2.5, 0.35 * most))
    shown = []
    for place, panel in enumerate(axes.flat):
        if place >= len(populations):
            panel.set_axis_off()
            panel.set_xlabel("-")
            continue
        own = rows[rows["population"] == populations[place]]
        shown += _panel(panel, own)
        style.title(panel, populations[place], style.recipe(layers[layers["population"] == populations[place]]))
    figure.legend(handles=_key(), loc="outside upper left", ncols=3)
    return style.Plot(figure, pd.DataFrame(shown), f"{style.pools(layers)} Histograms are from one pool.")


def _key() -> list[Line2D]:
    soup = Line2D([], [], color=style.SPACES["weights"], label="largest uniform soup")
    gauss = Line2D([], [], color=style.INK, linestyle=":", linewidth=1, label="Gaussian")
    return [Line2D([], [], color=style.SPACES["members"], label="member"), soup, gauss]


def _panel(axes: Axes, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Draw the ridges of one population, one per tensor; return the rows of the data table."""
    rows = rows[np.isfinite(rows["mean"]) & (rows["std"] > 0)]
    members = rows[rows["kind"] == "member"].sort_values("depth")
    soups = rows[(rows["method"] == "uniform_soup") & (rows["n_members"] == rows["n_members"].max())]
    soups = soups.drop_duplicates("tensor").set_index(soups.drop_duplicates("tensor")["tensor"].astype(object))
    found = []
    for place, member in enumerate(members.to_dict("records")):
        pair = [(member, "members")]
        pair += [(soups.loc[member["tensor"]].to_dict(), "weights")] if member["tensor"] in soups.index else []
        top = max(_density(one, member)[1].max() for one, _ in pair)
        for one, space in pair:
            x, height = _density(one, member)
            ridge = place - height / top * HEIGHT
            axes.fill_between(x, place, ridge, color=style.SPACES[space], alpha=0.25, linewidth=0)
            axes.plot(x, ridge, color=style.SPACES[space], linewidth=1)
            about = {
                name: one[name] for name in ("population", "method", "n_members", "tensor", "depth", "mean", "std")
            }
            found.append(about | {"kurtosis": one["kurtosis"]})
        x = np.linspace(-REACH, REACH, 161)
        gauss = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
        axes.plot(x, place - gauss / top * HEIGHT, color=style.INK, linestyle=":", linewidth=1)
    _frame(axes, [str(name) for name in members["tensor"]])
    return found


def _density(one: Any, member: Any) -> tuple[np.ndarray, np.ndarray]:
    """Centers and heights of a model's bins, in standard deviations of the member from its mean."""
    shares = np.frombuffer(one["histogram"], "<f4").astype(float)
    shares = shares.reshape(-1, next(bins for least, bins in FINE.items() if one["n_elements"] >= least)).sum(1)
    edges = np.linspace(-REACH, REACH, len(shares) + 1)
    middles = (edges[1:] + edges[:-1]) / 2 * one["std"] + one["mean"] - member["mean"]
    width = 2 * REACH / len(shares) * one["std"] / member["std"]
    return middles / member["std"], shares / width


def _frame(axes: Axes, names: list[str]) -> None:
    """Set ticks and limits: tensors from the top, standard deviations below."""
    axes.set_yticks(range(len(names)), [name.removesuffix(".weight") for name in names], fontsize=7)
    axes.set_ylim(len(names) - 0.7, -HEIGHT - 0.2)
    axes.set_xlim(-REACH, REACH)
    axes.set_xlabel("standard deviations of the member")
    axes.set_ylabel("tensor")
    axes.grid(visible=False, axis="y")
