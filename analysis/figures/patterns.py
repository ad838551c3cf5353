"""Templates of a linear classifier beside the mean images of the classes."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import numbers, style
from analysis.errors import NothingToDrawError
from analysis.frames import named
from analysis.statistics.patterns import patterns as resemblance

CELL = ["population", "weight_decay", "mixup"]
PAIR = ["template_class", "mean_class"]
VECTORS = 32
"""Classes up to which each square is a shape of its own; beyond, they are one image."""
STEPS = 40
"""Shades from -1 to 1."""


def patterns(templates: pd.DataFrame) -> style.Plot:
    """Do weights look like their classes: templates of a linear classifier against the mean images of the classes.

    Left, the correlation over pixels of each template with each class's mean image, both centred over classes, averaged
    over single members and then over pools: a bright diagonal means that each template resembles its own class. Right,
    T, the mean of the diagonal minus the mean of the rest, with its 95% Student-t interval over pools, the unit of
    replication, and the p of permuted classes. The resemblance by itself is arithmetic: strong weight decay makes a
    template of class means, and models trained on shuffled labels (open marks) then resemble the means of those labels
    as well. What tells more is whether T differs between trainings.
    """
    if templates.empty:
        raise NothingToDrawError("templates", "no rows of templates")
    data = resemblance(templates)
    cells = list(data[CELL].drop_duplicates().itertuples(index=False, name=None))
    most = int(data.groupby(CELL, dropna=False).size().max())
    figure, axes = style.grid(len(cells), 2, height=max(2.6, 0.5 * most))
    axes[0, 0].get_gridspec().set_width_ratios([1, 1.5])
    for cell, (left, right) in zip(cells, axes, strict=True):
        own, found = _of(templates, cell), _of(data, cell)
        _heat(figure, left, own)
        _scores(right, found)
        style.title(left, cell[0], style.recipe(own))
        style.title(right, "", f"weight decay {cell[1]:g}, mixup {cell[2]:g}")
    for left, right in axes[-1:]:
        left.set_xlabel("class of the mean image")
        right.set_xlabel("T: own class minus others")
    return style.Plot(figure, data, style.pools(templates))


def _of(rows: pd.DataFrame, cell: tuple[Any, ...]) -> pd.DataFrame:
    """The rows of one population, weight decay and mixup."""
    return rows[np.logical_and.reduce([rows[name] == value for name, value in zip(CELL, cell, strict=True)])]


def _heat(figure: Figure, axes: Axes, rows: pd.DataFrame) -> None:
    """The mean correlations of single members with true labels, or of what there is, as squares."""
    for column, wanted in (("labels", "true"), ("method", "single")):
        rows = rows[rows[column] == wanted] if (rows[column] == wanted).any() else rows
    mean = rows.groupby(["pool_id", *PAIR])["correlation"].mean().groupby(PAIR).mean().unstack()
    # Cividis grows lighter throughout and looks alike to the colour-blind; in few steps its key needs no image.
    colours, image = mpl.colormaps["cividis"].resampled(STEPS), len(mean) > VECTORS
    squares = axes.pcolormesh(mean.to_numpy(float), cmap=colours, vmin=-1, vmax=1, rasterized=image)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.grid(visible=False)
    for axis, classes in ((axes.xaxis, mean.columns), (axes.yaxis, mean.index)):
        places = [round(place) for place in MaxNLocator(8, integer=True).tick_values(0, len(classes) - 1)]
        places = [place for place in places if 0 <= place < len(classes)]
        axis.set_ticks([place + 0.5 for place in places], [str(classes[place]) for place in places])
    axes.set_ylabel("class of the template")
    bar = figure.colorbar(squares, cax=axes.inset_axes((1.04, 0, 0.05, 1)), ticks=[-1, 0, 1])
    bar.outline.set_visible(False)
    bar.set_label("mean correlation")


def _scores(axes: Axes, rows: pd.DataFrame) -> None:
    """T of each group with its interval, one below the other, and what it comes to."""
    texts = []
    for place, row in enumerate(sorted(rows.itertuples(), key=_order)):
        single, control = row.method == "single", row.labels != "true"
        look: dict[str, Any] = {
            "color": style.SPACES["members" if single else "weights"],
            "fillstyle": "none" if control else "full",
        }
        half = row.high - row.estimate if np.isfinite(row.high) else np.nan
        mark = "s" if single else "o"
        axes.errorbar(row.estimate, place, xerr=half, marker=mark, capsize=2, elinewidth=1, linestyle="", **look)
        ends = numbers.interval(row.low, row.high, 2)
        told = f"{numbers.signed(row.estimate, 2)} {ends}, permutation p {row.permutation_p:.2g}, n = {row.n_units}"
        axes.annotate(told, (0, place), (5, 6), textcoords="offset points", va="bottom", fontsize=8)
        size = f", {row.n_members} members" if row.n_members > 1 else ""
        texts.append(f"{named(row.method, row.settings)}{size}" + (f"\n{row.labels} labels" if control else ""))
    axes.set_yticks(range(len(texts)), texts)
    axes.set_ylim(len(texts) - 0.5, -0.7)
    axes.axvline(0, color=style.MUTED, linewidth=1)
    axes.set_xlim(min(-0.1, *axes.get_xlim()), max(1.05, axes.get_xlim()[1]))
    axes.grid(visible=False, axis="y")


def _order(row: Any) -> tuple[Any, ...]:
    """Single members first, each with its control below it."""
    return (row.n_members, row.method, row.settings, row.labels != "true")
