"""Gain against the number of members, with the fitted law."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.core.errors import NothingToDrawError
from analysis.display import numbers, style
from analysis.inference.estimate import pool_mean
from analysis.rows.select import select_split
from analysis.statistics.curve import Curve, curves, enough

TITLE = "How many models"

STEPS = 41
"""Number of points of a fitted line."""


def number(candidates: pd.DataFrame) -> style.Plot:
    """Gain over the mean member against the number of members N, with the law fitted to each method and its N*.

    Left: marks are gains averaged over the subsets of a pool and then over pools, with 95% Student-t bars. Lines are
    the mean over pools of the curves fitted to each pool, with 95% Student-t bands at each N; pools are the unit of
    replication. One member has no gain by definition; a line begins at N = 1 only if the law of the merges fits there.

    Right: N*, the smallest number of members from which one more adds less than 0.1 points, with its 95% interval; an
    arrow marks an interval that goes beyond the axis. The law shown is the one that best predicts a size left out of
    its fit. With few pools or sizes the laws can hardly be distinguished, and an N* beyond the measured sizes is an
    extrapolation.
    """
    found = curves(candidates)
    data = pd.DataFrame([row for one in found for row in _estimates(one) if row["n_units"] > 0])
    if data.empty:
        raise NothingToDrawError("candidates", "no merges whose single members were evaluated")
    looks = style.looks(data)
    rows = select_split(candidates)
    populations = sorted(set(data["population"]))
    figure, axes = style.grid(len(populations), 2, height=3.0)
    for name, (left, right) in zip(populations, axes, strict=True):
        own = data[data["population"] == name]
        _gains(left, own, looks)
        _enough(right, own, looks)
        style.title(left, name, style.recipe(rows[rows["population"] == name]))
        style.title(right, "", "law of each method, and its N* with 95% interval")
    axes[-1][0].set_xlabel("members N")
    axes[-1][1].set_xlabel("N*: from here on, one more member adds < 0.1 points")
    style.key(figure, [Line2D([], [], label=label, **look) for label, look in looks.items()])
    return style.Plot(figure, data, style.pools(rows))


def _estimates(one: Curve) -> list[dict[str, Any]]:
    """Means over pools as measured and, if a law was fitted, on the fitted line, and N*."""
    merged = zip(one.sizes[one.sizes > 1], one.values.T[one.sizes > 1], strict=True)
    found = [_mean(one, "measured", n, values) for n, values in merged]
    if not np.isfinite(one.fit.a).any():
        return found
    sizes = one.sizes[one.used]
    line = np.geomspace(sizes[0], sizes[-1], STEPS)
    found += [_mean(one, "fitted", n, values) for n, values in zip(line, one.fit.at(line).T, strict=True)]
    star = enough(one, "gain", 0.001)
    return [*found, {**one.key, "quantity": "N*", "law": one.fit.law.formula, "n_members": math.nan, **asdict(star)}]


def _mean(one: Curve, quantity: str, n: float, values: np.ndarray) -> dict[str, Any]:
    """The mean over pools at one N."""
    estimate = pool_mean(values[np.isfinite(values)].tolist(), estimand="gain", warnings=one.warnings)
    law = "" if quantity == "measured" else one.fit.law.formula
    return {**one.key, "quantity": quantity, "law": law, "n_members": float(n), **asdict(estimate)}


def _gains(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw measured means with bars, shifted sideways, and fitted lines with bands."""
    labels = [label for label in looks if label in set(data["label"])]
    for index, label in enumerate(labels):
        own = data[data["label"] == label].sort_values("n_members")
        look = looks[label]
        points = own[own["quantity"] == "measured"]
        line = own[own["quantity"] == "fitted"]
        apart = 1 + min(0.025, 0.15 / len(labels)) * (index - (len(labels) - 1) / 2)
        style.whiskers(axes, points["n_members"] * apart, points, 100, {**look, "linestyle": "none"})
        axes.plot(line["n_members"], line["estimate"] * 100, **{**look, "marker": "none"})
        style.band(axes, line["n_members"], line["low"] * 100, line["high"] * 100, str(look["color"]))
    measured = data[data["quantity"] == "measured"]
    sizes = [1, *sorted(set(measured["n_members"]))]
    _log_axis(axes, 0.9, sizes[-1] * 1.15)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    style.gain_axis(axes, measured["estimate"])


def _log_axis(axes: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic, with ticks at whole numbers."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _enough(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw N* of each method with its interval, and write its law above it."""
    lines = data[data["quantity"] == "fitted"]
    data = data[data["quantity"] == "N*"]
    labels = [label for label in looks if label in set(data["label"])]
    ends = data[["estimate", "low", "high"]].to_numpy(float)
    most = max(float(ends[np.isfinite(ends)].max(initial=4)) * 1.5, 6.0)
    for place, label in enumerate(labels):
        row = data[data["label"] == label].iloc[0]
        look = looks[label]
        low, high = (min(max(end, 1), most) if row["n_units"] > 1 else np.nan for end in (row["low"], row["high"]))
        axes.plot([low, high], [place, place], color=look["color"], linewidth=1, marker="|", markersize=5)
        if row["high"] > most and row["n_units"] > 1:
            axes.plot(most, place, marker=">", color=look["color"], clip_on=False)
        axes.plot(min(row["estimate"], most), place, **{**look, "linestyle": "none"})
        line = lines.loc[lines["label"] == label, "estimate"]
        falls = "   falling" if line.iloc[-1] < line.iloc[0] else ""
        text = f"{row['law']}   N* = {_whole(row['estimate'])}{_interval(row)}{falls}"
        axes.annotate(text, (1, place), (2, 6), textcoords="offset points", fontsize=8, color=style.INK)
    if not labels:
        axes.annotate("no law: needs two sizes", (0.5, 0.5), xycoords="axes fraction", ha="center")
    axes.set_ylim(len(labels) - 0.4, -0.9)
    axes.set_yticks([])
    _log_axis(axes, 0.9, most)


def _whole(value: float) -> str:
    """A number of members."""
    return numbers.whole(value) if math.isfinite(value) else "∞"


def _interval(row: pd.Series) -> str:
    """The interval of N*, where there is one."""
    return f" [{_whole(row['low'])}, {_whole(row['high'])}]" if row["n_units"] > 1 else ""
