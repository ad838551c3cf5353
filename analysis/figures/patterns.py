"""Templates of a classifier against the means of its classes, by weight decay."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.core.errors import NothingToDrawError
from analysis.display import numbers, style
from analysis.rows.select import named
from analysis.statistics.patterns import patterns as resemblance

TITLE = "Inside: patterns in weights"

FAMILY = ["architecture", "dataset", "start", "input"]
LINE = ["method", "settings", "alignment", "repair", "n_members", "mixup", "labels"]
PAIR = ["template_class", "mean_class"]
VECTORS = 32
"""Largest number of classes for which each square is a vector shape; with more, they are one image."""
STEPS = 40
"""Shades from -1 to 1."""


def patterns(templates: pd.DataFrame) -> style.Plot:
    """Do weights look like their classes: templates of a classifier against the mean images of the classes.

    Left, the correlation of each template (a row of the head) with each class's mean input of the head, both
    centered over classes, averaged over single members and then over pools: a bright diagonal means that each template
    resembles its own class. Right, T, the mean of the diagonal minus the mean of the rest, with 95% Student-t intervals
    over pools, the unit of replication; against weight decay if there are several values, else with the p-value of
    permuted classes. The resemblance by itself is arithmetic: with weight decay, any converged classifier is a weighted
    sum of images, and models trained on shuffled labels (open marks) resemble the means of those labels as well. A
    difference of T between trainings at one weight decay is informative.
    """
    if templates.empty:
        raise NothingToDrawError("templates", "no rows of templates")
    data = resemblance(templates)
    about = templates.drop_duplicates("population").set_index(templates.drop_duplicates("population")["population"])
    data = data.join(about[FAMILY[:-1]].astype(object), on="population")
    families = list(data[FAMILY].drop_duplicates().itertuples(index=False, name=None))
    figure, axes = style.grid(len(families), 2, height=3.4)
    axes[0, 0].get_gridspec().set_width_ratios([1, 1.5])
    for family, (left, right) in zip(families, axes, strict=True):
        own = _rows_of_family(templates, family)
        found = _rows_of_family(data, family)
        words = _heat(figure, left, own)
        (_doses if found["weight_decay"].nunique() > 1 else _scores)(right, found)
        names = sorted(set(own["population"]))
        style.title(left, names[0] if len(names) == 1 else style.recipe(own).rpartition(" · ")[0], words)
        style.title(right, "", f"over {family[-1]}, {_pools(own)}")
        left.set_xlabel("class of the mean")
    return style.Plot(figure, data, style.pools(templates))


def _rows_of_family(rows: pd.DataFrame, family: tuple[Any, ...]) -> pd.DataFrame:
    """The rows of one kind of network."""
    return rows[np.logical_and.reduce([rows[name] == value for name, value in zip(FAMILY, family, strict=True)])]


def _pools(rows: pd.DataFrame) -> str:
    """The number of pools per population, as text."""
    counts = sorted(set(rows.groupby("population", observed=True)["pool_id"].nunique()))
    return f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} pools per population"


def _heat(figure: Figure, axes: Axes, rows: pd.DataFrame) -> str:
    """Draw mean correlations of single members of the middle weight decay, with true labels if there are any.

    Returns a text that describes these members.
    """
    for column, wanted in (("labels", "true"), ("method", "single"), ("mixup", 0)):
        rows = rows[rows[column] == wanted] if (rows[column] == wanted).any() else rows
    doses = sorted(set(rows["weight_decay"].dropna()))
    words = "single members"
    if doses:
        rows = rows[rows["weight_decay"] == doses[len(doses) // 2]]
        words += f", weight decay {doses[len(doses) // 2]:g}"
    mean = rows.groupby(["pool_id", *PAIR])["correlation"].mean().groupby(PAIR).mean().unstack()
    # Cividis grows monotonically lighter and suits color-blind readers; with few steps its key needs no image.
    colours = mpl.colormaps["cividis"].resampled(STEPS)
    image = len(mean) > VECTORS
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
    return words


def _doses(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw T against weight decay: members of every training, and the largest merges of the plain training."""
    doses = sorted(set(rows["weight_decay"].dropna()))
    at = {dose: _place(dose, doses) for dose in doses}
    largest = rows.groupby("method", observed=True)["n_members"].transform("max")
    plain = (rows["labels"] == "true") & (rows["mixup"] == 0) & (rows["n_members"] == largest)
    shown = rows[(rows["method"] == "single") | plain]
    lines = sorted((line for _, line in shown.groupby(LINE, observed=True)), key=lambda line: _order(line.iloc[0]))
    for number, line in enumerate(lines):
        first = line.iloc[0]
        line = line.sort_values("weight_decay")
        look = _look(first) | {"markersize": 4.5, "label": _text(first)}
        x = line["weight_decay"].map(at).to_numpy(float) + 0.06 * (number - len(lines) / 2)
        style.whiskers(axes, x, line, 1.0, look)
    axes.set_xticks(list(at.values()), [f"{dose:g}" for dose in doses])
    axes.set_xlabel("weight decay (log)")
    axes.set_ylabel("T: own class minus others")
    axes.axhline(0, color=style.MUTED, linewidth=1)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)


def _place(dose: float, doses: list[float]) -> float:
    """Position of a weight decay on the axis: its logarithm; zero stands one decade below the smallest."""
    least = min((one for one in doses if one > 0), default=1.0)
    return float(np.log10(dose)) if dose > 0 else float(np.log10(least)) - 1


def _look(row: Any) -> dict[str, Any]:
    """Line properties: members grey, merges blue, mixup orange; open marks for shuffled labels."""
    colour = style.SPACES["members" if row["method"] == "single" else "weights"]
    colour = style.POOLS[1] if row["mixup"] > 0 else colour
    mark = {"single": "s", "uniform_soup": "o"}.get(row["method"], "^")
    control = row["labels"] != "true"
    fill = {"fillstyle": "none" if control else "full"}
    return {"color": colour, "marker": mark, "linestyle": "--" if control else "-", **fill}


def _scores(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw T of each group with its interval, one below the other, with its value as text."""
    texts = []
    for place, (_, row) in enumerate(sorted(rows.iterrows(), key=lambda pair: _order(pair[1]))):
        half = row["high"] - row["estimate"] if np.isfinite(row["high"]) else np.nan
        axes.errorbar(row["estimate"], place, xerr=half, capsize=2, elinewidth=1, **(_look(row) | {"linestyle": ""}))
        ends = numbers.interval(row["low"], row["high"], 2)
        text = f"{numbers.signed(row['estimate'], 2)} {ends}, permutation p {row['permutation_p']:.2g}"
        axes.annotate(text, (0, place), (5, 6), textcoords="offset points", va="bottom", fontsize=8)
        texts.append(_text(row))
    axes.set_yticks(range(len(texts)), texts)
    axes.set_ylim(len(texts) - 0.5, -0.7)
    axes.axvline(0, color=style.MUTED, linewidth=1)
    axes.set_xlim(min(-0.1, *axes.get_xlim()), max(1.05, axes.get_xlim()[1]))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("T: own class minus others")


def _order(row: Any) -> tuple[Any, ...]:
    """Sort key: single members before merges, plain trainings before mixup and the control."""
    return (
        row["n_members"],
        row["method"] != "single",
        row["method"],
        row["settings"],
        row["labels"] != "true",
        row["mixup"],
    )


def _text(row: Any) -> str:
    """The label of a line or mark."""
    texts = ["members" if row["method"] == "single" else named(row["method"], row["settings"]).replace(" (", "\n(")]
    texts += [f"of {row['n_members']}"] if row["n_members"] > 1 else []
    texts += [str(row[step]) for step in ("alignment", "repair") if row[step] not in ("none", None)]
    texts += [f"mixup {row['mixup']:g}"] if row["mixup"] > 0 else []
    texts += ["shuffled labels"] if row["labels"] != "true" else []
    return ", ".join(texts).replace(", of", " of")
