"""The style of figures: colors by space, marks by method, grids of panels, legends."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from sweep.core.text import format_count

# Text, secondary text and rules; the report replaces them by the colors of its theme.
INK = "#1b1f27"
MUTED = "#667085"
GRID = "#d9dde4"

SPACES = {"weights": "#2878b5", "features": "#159a78", "logits": "#d2601a", "members": "#7d8590"}
POOLS = ("#2878b5", "#d2601a", "#159a78", "#b0529c", "#a88a1f", "#7d8590", "#5b5fc7", "#c44a4a")
MARKS = {
    "uniform_soup": "o",
    "greedy_soup": "s",
    "feature_average (head=first)": "^",
    "feature_average (head=average)": "v",
    "logit_average": "D",
    "probability_average": "P",
    "single": "x",
    "mean_member": "x",
    "best_member": "X",
}
_OTHER_MARKS = ("p", "h", "<", ">", "*", "8", "d")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (4, 1.5, 1, 1.5)))
_LINES = dict(zip(SPACES, _DASHES, strict=True))
_FILLS = ("full", "none", "left", "bottom", "right", "top")
WIDTH = 9.6
CROWDED = 25.0
"""Points of gain beyond which the axis is logarithmic: one collapse must not flatten the rest."""

_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "axes.unicode_minus": True,
    # Names come from configurations: a dollar sign in a name does not start a formula.
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Plot:
    """A figure, the rows that it shows, and a sentence with the unit of replication and n."""

    figure: Figure
    data: pd.DataFrame
    replication: str


@contextmanager
def context(name: str) -> Iterator[None]:
    """Apply the settings of every figure; `name` salts the ids in the SVG, so that equal figures have equal bytes."""
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        yield


def looks(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Line properties of each label, weights first: color and dash by space, mark by method, fill by variant."""
    pairs = rows[["label", "space"]].drop_duplicates()
    order = {space: place for place, space in enumerate(SPACES)}
    pairs = pairs.assign(order=pairs["space"].astype(object).map(order).fillna(len(order))).sort_values(
        ["order", "space", "label"]
    )
    variants = sorted({_variant(label) for label in pairs["label"]})
    named = zip(pairs["label"], pairs["space"], strict=True)
    return {label: _look(label, space, variants.index(_variant(label))) for label, space in named}


def _variant(label: str) -> str:
    """The part of a label after the method: alignment and repair."""
    return label.partition(" + ")[2]


def _look(label: str, space: str, variant: int) -> dict[str, Any]:
    """Line properties of one label."""
    base = label.partition(" + ")[0]
    other = _OTHER_MARKS[zlib.crc32(base.encode()) % len(_OTHER_MARKS)]
    mark = MARKS.get(base, MARKS.get(base.partition(" ")[0], other))
    fill = _FILLS[variant % len(_FILLS)] if mark != "x" else "full"
    space = "members" if base == "single" else space
    colour = SPACES.get(space, POOLS[3])
    return {"color": colour, "linestyle": _LINES.get(space, "-"), "marker": mark, "fillstyle": fill}


def series(index: int) -> dict[str, Any]:
    """Color and dash of the pools or variants of a figure, by position."""
    return {"color": POOLS[index % len(POOLS)], "linestyle": _DASHES[index % len(_DASHES)]}


def grid(rows: int, columns: int, *, height: float = 2.5, share: Literal["none", "row"] = "none") -> tuple[Figure, Any]:
    """A figure of fixed width with `rows` x `columns` panels, `height` inches each, and its 2-d array of axes."""
    figure = Figure(figsize=(WIDTH, height * rows + 0.7), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08, hspace=0.04, wspace=0.03)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share)
    return figure, axes


_LINES_OF_KEY = 4
"""Lines of a legend for which figures have room."""


def key(figure: Figure, handles: Sequence[Line2D], columns: int = 4) -> None:
    """Draw one legend above all panels, in as many columns as fit; a long one makes the figure taller."""
    if handles:
        labels = short([str(handle.get_label()) for handle in handles])
        font = FontProperties(size=mpl.rcParams["legend.fontsize"])
        widest = max(TextPath((0, 0), label, prop=font).get_extents().width for label in labels)
        room = int(72 * WIDTH / (widest + 6 * font.get_size_in_points()))  # for a sample of its line, and spaces
        ncols = max(1, min(columns, room, len(handles)))
        lines = math.ceil(len(handles) / ncols)
        taller = max(0, lines - _LINES_OF_KEY) * 1.5 * font.get_size_in_points() / 72  # inches
        figure.set_figheight(figure.get_figheight() + taller)
        figure.legend(handles=list(handles), labels=labels, loc="outside upper left", ncols=ncols)


def short(labels: Sequence[str], *, methods: int = 1) -> list[str]:
    """Labels without the long settings of alignments and repairs, if the labels stay distinct.

    The first `methods` parts of a label are methods and keep their settings.
    """
    parted = [label.split(" + ") for label in labels]
    bare = [[*parts[:methods], *(step.partition(" (")[0] for step in parts[methods:])] for parts in parted]
    joined = [" + ".join(parts) for parts in bare]
    return joined if len(set(joined)) == len(set(labels)) else list(labels)


def title(axes: Axes, text: str, muted: str = "") -> None:
    """Write a heading at the left of a panel, with secondary lines below it."""
    lines = len(muted.splitlines())
    axes.set_title(text, loc="left", pad=6 + 10 * lines)
    if muted:
        where: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "verticalalignment": "bottom"}
        axes.annotate(muted, (0, 1), (0, 2), color=MUTED, fontsize=8, **where)


def band(axes: Axes, x: Any, low: Any, high: Any, colour: str) -> None:
    """Draw intervals as a band; infinite ends (one pool) are left out."""
    low, high = (np.where(np.isfinite(end), end, np.nan) for end in (np.asarray(low, float), np.asarray(high, float)))
    axes.fill_between(np.asarray(x, float), low, high, color=colour, alpha=0.16, linewidth=0)


def whiskers(axes: Axes, x: Any, rows: pd.DataFrame, scale: float, look: dict[str, Any]) -> None:
    """Draw estimates with their intervals as bars; if the interval is infinite (one pool), the point alone."""
    middle = rows["estimate"].to_numpy(float) * scale
    half = np.where(np.isfinite(rows["high"]), (rows["high"] - rows["estimate"]) * scale, np.nan)
    axes.errorbar(x, middle, yerr=half, capsize=2, elinewidth=1, **look)


def chance_line(axes: Axes, rows: pd.DataFrame, lowest: float = -np.inf) -> None:
    """Draw chance, the accuracy of a constant prediction, as a labelled line on an axis in percent.

    There is none where chance is unknown, or where the lowest accuracy (a fraction) is nearer to 100% than to it: the
    line would flatten the rest.
    """
    chance = float(rows["chance"].mean())
    if not lowest - chance < 1 - lowest:
        return
    axes.axhline(100 * chance, color=MUTED, linewidth=0.9, linestyle=":")
    where: Any = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    axes.annotate("chance", (1, 100 * chance), (-1, 2), ha="right", color=MUTED, fontsize=7.5, **where)


def gain_axis(axes: Axes, gains: pd.Series) -> None:
    """Label the axis of gains (fractions) in points, with a line at zero; logarithmic if a method collapses."""
    axes.axhline(0, color=MUTED, linewidth=1)
    axes.set_ylabel("gain over mean\nmember (points)")
    if gains.abs().max() * 100 > CROWDED:
        axes.set_yscale("symlog", linthresh=5)
        axes.set_ylim(*(end * 1.3 for end in axes.get_ylim()))
        low, high = axes.get_ylim()
        ticks = [tick for tick in (-80, -40, -20, -10, -5, 0, 5, 10, 20, 40) if low <= tick <= high]
        axes.set_yticks(ticks, [f"{tick:+d}".replace("-", "\N{MINUS SIGN}") if tick else "0" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylabel("gain over mean member\n(points, log beyond ±5)")


def recipe(rows: pd.DataFrame) -> str:
    """A population in a few words: architecture, data set, start and number of pools."""
    first = rows.iloc[0]
    pools = rows["pool_id"].nunique()
    return f"{first['architecture']} · {first['dataset']} · {first['start']} start · {format_count(pools, 'pool')}"


def pools(rows: pd.DataFrame) -> str:
    """The unit of replication with n, by population if n differs."""
    counts = rows.groupby("population")["pool_id"].nunique()
    several = counts.nunique() > 1
    n = ", ".join(f"{n} ({name})" for name, n in counts.items()) if several else f"{counts.iloc[0]} per population"
    alone = " A single pool has no interval." if (counts == 1).any() else ""
    return f"Unit of replication: pool; n = {n}.{alone}"
