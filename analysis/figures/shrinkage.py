"""Shrinkage of weights with the number of averaged models."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from analysis.statistics.layers import ARITHMETIC, VARIANCE
from analysis.statistics.layers import layers as shapes

TITLE = "Inside: how averaging shrinks weights"

MERGE = "uniform_soup"
LOOKS: dict[str, dict[str, Any]] = {
    VARIANCE: {"color": style.SPACES["weights"], "marker": "o"},
    ARITHMETIC: {"color": style.INK, "marker": "x", "linestyle": "--"},
}
WORDS = {VARIANCE: "soup", ARITHMETIC: "(1 + (N - 1) ρ) / N"}


def shrinkage(layers: pd.DataFrame) -> style.Plot:
    """How averaging shrinks weights: the variance of a uniform soup's entries over that of its members', against N.

    Left, thin lines are weight tensors, as means over pools, the unit of replication; the thick line is their mean. The
    dashed line is the arithmetic of averaging N members of equal variance whose entries have correlation ρ. It is not
    a finding that soups are smaller, nor that they shrink most for members from scratch, where ρ is near 0. Right, each
    tensor at each size with its 95% Student-t interval over pools: points on the diagonal are explained by arithmetic.
    """
    rows = layers[(layers["role"] == "weight") & (layers["method"].isin([MERGE, "single"])) & _plain(layers)]
    if not (rows["kind"] == "merge").any():
        raise NothingToDrawError("layers", f"no weights of a `{MERGE}`")
    found = shapes(rows)
    data = found[found["quantity"].isin(LOOKS) & (found["n_units"] > 0) & (found["n_members"] > 1)]
    if data.empty:
        raise NothingToDrawError("layers", f"no finite weights of a `{MERGE}` and its members")
    populations = sorted(set(data["population"]))
    figure, axes = style.grid(len(populations), 2)
    for name, (left, right) in zip(populations, axes, strict=True):
        own = data[data["population"] == name]
        _by_size(left, own)
        _by_tensor(right, own)
        style.title(left, name, style.recipe(layers[layers["population"] == name]))
    for left, right in axes[-1:]:
        left.set_xlabel("models averaged, N")
        right.set_xlabel("variance ratio by arithmetic")
    style.key(figure, [Line2D([], [], label=WORDS[name], **look) for name, look in LOOKS.items()])
    return style.Plot(figure, data, style.pools(layers))


def _plain(rows: pd.DataFrame) -> pd.Series:
    """Boolean mask: models that are neither aligned nor repaired."""
    return rows["alignment"].isin(["none"]) & rows["repair"].isin(["none"])


def _by_size(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the ratio of each tensor, and the mean over tensors, against the number of models."""
    for _, one in rows[rows["quantity"] == VARIANCE].groupby("depth"):
        axes.plot(one["n_members"], one["estimate"], color=style.SPACES["weights"], linewidth=0.7, alpha=0.4)
    for quantity, look in LOOKS.items():
        mean = rows[rows["quantity"] == quantity].groupby("n_members")["estimate"].mean()
        axes.plot(mean.index, mean, linewidth=2, **({"linestyle": "-"} | look))
    axes.set_ylim(0, max(1.05, axes.get_ylim()[1]))
    axes.set_ylabel("variance over members'")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _by_tensor(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the observed ratio against the arithmetic one, one mark per tensor and size."""
    wide = rows.pivot(index=["depth", "n_members"], columns="quantity", values=["estimate", "low", "high"])
    if {VARIANCE, ARITHMETIC} <= set(wide.columns.get_level_values("quantity")):
        style.whiskers(axes, wide["estimate"][ARITHMETIC], wide.xs(VARIANCE, axis=1, level="quantity"), 1.0, _MARK)
    axes.axline((0, 0), slope=1, color=style.MUTED, linewidth=1)
    axes.set_xlim(0, 1.05)
    axes.set_ylim(0, max(1.05, axes.get_ylim()[1]))


_MARK = {"color": style.SPACES["weights"], "linestyle": "", "marker": "o", "markersize": 3.5}
