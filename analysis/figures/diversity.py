"""Diversity of the errors of members, and the gain from averaging."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.display import numbers, style
from analysis.rows.select import MEAN_MEMBER, select_comparison, unscaled
from analysis.statistics.diversity import AMBIGUITY, AVERAGE, OF_PAIRS
from analysis.statistics.diversity import diversity as measured
from analysis.statistics.paired_difference import paired_difference

TITLE = "Inside: diversity"

GAIN = "gain in Brier score"
BY = ["population", "n_members", "space"]
CROWDED = 5.0
"""Ratio of the largest loss to the largest gain beyond which the axis is logarithmic."""
TICKS = (-1.0, -0.5, -0.2, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2)


def diversity(candidates: pd.DataFrame, predictions: pd.DataFrame) -> style.Plot:
    """Diversity of the errors of the members of a pool, and what averaging the members gains in Brier score.

    Left: over pairs of single members, the share of test examples with different predictions, the correlation of their
    errors, and Yule's Q, without pairs that have an empty cell in their table of right and wrong. Members that err on
    the same examples have high values of the last two.

    Right: Brier score of the mean member minus that of the merge on the same subsets; above the line, merging helps.
    For averaged probabilities, where they were evaluated, this gain is exactly the spread of the members around their
    average, the ambiguity; a soup keeps a part of it, at the cost of one model. Bars are 95% Student-t intervals over
    pools, which are the unit of replication: pairs and subsets of one pool share members and are averaged first. They
    are for new pools and these test images, unlike those of differences in accuracy: correlation and Q are no means
    over images, and tables keep no Brier score of single images.
    """
    rows = unscaled(select_comparison(candidates))
    data = pd.concat([_differences(rows, predictions), *_gains(rows)], ignore_index=True)
    data = data[data["n_units"] > 0].reset_index(drop=True)
    if data.empty:
        raise NothingToDrawError("predictions", "no usable pairs of members")
    gains = data[data["quantity"].isin([AMBIGUITY, GAIN])]
    looks = style.looks(gains)
    populations = sorted(set(data["population"]))
    figure, axes = style.grid(len(populations), 2)
    for name, (left, right) in zip(populations, axes, strict=True):
        own = data["population"] == name
        _pairs(left, data[own & data["quantity"].isin(OF_PAIRS)])
        _panel(right, gains[gains["population"] == name], looks)
        style.title(left, name, style.recipe(rows[rows["population"] == name]))
    axes[-1][0].set_xlabel("over pairs of members")
    axes[-1][1].set_xlabel("members in the subset")
    style.key(figure, [Line2D([], [], label=label, **look) for label, look in looks.items()])
    return style.Plot(figure, data, style.pools(rows))


def _differences(rows: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The measures of diversity; the ambiguity is the gain of averaged probabilities."""
    found = measured(rows, predictions)
    merged = found["quantity"] == AMBIGUITY
    label = pd.Series("single", found.index).mask(merged, AVERAGE)
    space = pd.Series("members", found.index)
    return found.assign(label=label, space=space.mask(merged, "logits"))


def _gains(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Gain in Brier score of every uniform soup over the mean member; empty without rows of both."""
    soups = sorted(set(rows.loc[(rows["method"] == "uniform_soup") & (rows["n_members"] > 1), "label"]))
    found = []
    for label in soups:
        try:
            one = paired_difference(rows, MEAN_MEMBER, label, metric="brier", by=BY)
        except AnalysisError:
            continue
        one = one.drop(columns=["sign_flip_p", "improved"])
        found.append(one.assign(label=label, space="weights", quantity=GAIN))
    return found


def _pairs(axes: Axes, data: pd.DataFrame) -> None:
    """Draw the three measures of pairs, each with its value beside it."""
    place = data["quantity"].map({name: index for index, name in enumerate(OF_PAIRS)}).astype(int)
    look = {"color": style.SPACES["members"], "marker": "o", "linestyle": "none"}
    style.whiskers(axes, place, data, 1, look)
    for x, value in zip(place, data["estimate"], strict=True):
        text = numbers.fixed(value, 3)
        axes.annotate(text, (x, value), (7, 2), textcoords="offset points", fontsize=8, color=style.INK)
    axes.axhline(0, color=style.MUTED, linewidth=1)
    axes.set_xticks(range(len(OF_PAIRS)), OF_PAIRS)
    axes.set_xlim(-0.5, len(OF_PAIRS) - 0.3)
    axes.set_ylabel("share, or correlation")


def _panel(axes: Axes, data: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    """Draw one line of gains per label; sizes are evenly spaced, and labels of one size are shifted sideways."""
    axes.axhline(0, color=style.MUTED, linewidth=1)
    axes.set_ylabel("gain in Brier score")
    sizes = sorted(set(data["n_members"]))
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    if not sizes:
        what = f"no Brier scores of {AVERAGE} or of soups (metrics: [brier])"
        axes.annotate(what, (0.5, 0.5), xycoords="axes fraction", ha="center", color=style.MUTED)
        return
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    place = {size: position for position, size in enumerate(sizes)}
    labels = [label for label in looks if label in set(data["label"])]
    for index, label in enumerate(labels):
        own = data[data["label"] == label].sort_values("n_members")
        shift = (index - (len(labels) - 1) / 2) * min(0.09, 0.6 / len(labels))
        style.whiskers(axes, own["n_members"].map(place) + shift, own, 1, looks[label])
    _uncrowd(axes, data["estimate"].max(), data["estimate"].min())


def _uncrowd(axes: Axes, most: float, least: float) -> None:
    """Make the axis logarithmic if one method loses far more than any gains."""
    if not (most > 0 and -least > CROWDED * most):
        return
    axes.set_yscale("symlog", linthresh=2 * most)
    axes.set_ylim(*(end * 1.3 for end in axes.get_ylim()))
    low, high = axes.get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_yticks(ticks, [numbers.signed(tick, 2) if tick else "0" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel(f"gain in Brier score\n(log beyond ±{2 * most:.2g})")
