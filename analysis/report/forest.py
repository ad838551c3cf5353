"""The forest plot of claims: the effect of each cell, their mean, and what a new cell is expected to show."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.core.errors import NothingToDrawError
from analysis.display import draw, style
from analysis.inference.finding import Finding
from analysis.report.claim_cells import CellAnswers
from analysis.report.claims import Answer
from sweep.core.text import format_count

FEWEST_OF_MEAN = 3
"""Fewest cells whose mean is drawn: that of two has an interval of 13 standard errors."""

MEAN = "mean"
NEW = "new cell"
COLORS = {"supported": style.POOLS[0], "refuted": style.POOLS[1], "equivalent": style.POOLS[2]}


def forest(answers: Sequence[Answer]) -> style.Plot:
    """Does each claim hold in each cell: its effect by data set, architecture and start, with 95% intervals over pools.

    One panel for each claim with two cells or more. The grey band is the margin, the smallest difference that matters.
    From three cells on, the last lines are their mean with the interval of random effects, and the 95% prediction
    interval of the true effect in a new cell. Intervals are not corrected; verdicts (right) are corrected for the
    number of claims and of cells. Lines that leave the panel go on.
    """
    rows = [_rows(one.name, one.finding, one.by_cell) for one in answers if one.finding and one.by_cell]
    data = pd.DataFrame([row for own in rows for row in own])
    if data.empty:
        raise NothingToDrawError("claims", "no claim with two cells or more")
    names = list(dict.fromkeys(data["claim"]))
    known = {one.name: one for one in answers}
    counts = [int((data["claim"] == name).sum()) for name in names]
    figure = Figure(figsize=(style.WIDTH, sum(counts) * 0.27 + 1.05 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 1, squeeze=False, height_ratios=[n + 1.5 for n in counts])[:, 0]
    for name, axes in zip(names, panels, strict=True):
        _panel(axes, data[data["claim"] == name], known[name])
    n_units = "pool, and cell for means of cells; n is beside each line"
    return style.Plot(figure, data, f"Unit of replication: {n_units}.")


def draw_forest(answers: Sequence[Answer]) -> style.Plot:
    """The forest plot with the settings of every figure. Raises NothingToDrawError if no claim has two cells."""
    with style.context(forest.__name__):
        return forest(answers)


def save_forest(answers: Sequence[Answer], path: Path) -> None:
    """Write the forest plot (svg, pdf, png) or its table (csv).

    Raises NothingToDrawError if no claim has two cells, AnalysisError for another suffix.
    """
    draw.save(draw_forest(answers), forest.__name__, path)


def _rows(claim: str, finding: Finding, found: CellAnswers) -> list[dict[str, Any]]:
    """The lines of a claim in the unit of display; none for fewer than two cells."""
    if len(found.cells) < 2:
        return []
    about: dict[str, Any] = {"claim": claim, "unit": finding.unit}
    rows: list[dict[str, Any]] = [
        about
        | {"line": one.name, "estimate": one.estimate.estimate, "low": one.estimate.low, "high": one.estimate.high}
        | {"n_units": one.estimate.n_units, "verdict": one.verdict}
        for one in found.cells
    ]
    both = found.together
    if both is not None and both.n_cells >= FEWEST_OF_MEAN:
        mean = {"line": MEAN, "estimate": both.mean, "low": both.low, "high": both.high}
        new = {"line": NEW, "estimate": both.mean, "low": both.new_low, "high": both.new_high}
        rows += [about | one | {"n_units": both.n_cells, "verdict": ""} for one in (mean, new)]
    ends = ("estimate", "low", "high")
    return [row | {name: finding.scale * row[name] for name in ends} for row in rows]


def _panel(axes: Axes, data: pd.DataFrame, answer: Answer) -> None:
    """Draw one line per cell from the top, and those of the mean below."""
    assert answer.finding is not None
    margin = answer.finding.scale * (answer.finding.values.question.margin or 0.0)
    axes.axvspan(-margin, margin, color=style.MUTED, alpha=0.13, linewidth=0)
    axes.axvline(0, color=style.MUTED, linewidth=1)
    axes.set_xlim(*_limits(data, margin))
    for place, row in enumerate(data.itertuples()):
        of_mean = row.line in (MEAN, NEW)
        colour = style.INK if of_mean else COLORS.get(str(row.verdict), style.MUTED)
        if math.isfinite(row.high - row.low):
            axes.plot([row.low, row.high], [place, place], color=colour, linestyle=":" if row.line == NEW else "-")
        if row.line != NEW:
            axes.plot([row.estimate], [place], marker="D" if of_mean else "o", color=colour)
        edge: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
        axes.annotate(str(row.verdict), (1, place), (6, 0), color=colour, fontsize=8, **edge)
    nouns = {MEAN: "cell", NEW: "cell"}
    counts = [format_count(int(row.n_units), nouns.get(str(row.line), "pool")) for row in data.itertuples()]
    texts = [f"{line}, {count}" for line, count in zip(data["line"], counts, strict=True)]
    axes.set_yticks(range(len(data)), texts)
    axes.set_ylim(len(data) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(answer.finding.unit)
    style.title(axes, textwrap.shorten(answer.question, 80, placeholder=" …"))


def _limits(data: pd.DataFrame, margin: float) -> tuple[float, float]:
    """The range of the axis: all cells and the margin, with some room; the mean alone may leave it."""
    cells = data[~data["line"].isin([MEAN, NEW])]
    ends = cells[["estimate", "low", "high"]].to_numpy(float).ravel()
    ends = np.append(ends[np.isfinite(ends)], [-margin, margin])
    room = 0.08 * float(np.ptp(ends)) or 1.0
    return float(ends.min()) - room, float(ends.max()) + room
