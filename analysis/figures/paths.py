"""Along the straight line between two members."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.interpolation import STEPS, variant_of, with_weight
from analysis.rows.select import exclusion_reason, select_comparison, unscaled
from analysis.statistics.path import QUANTITIES, path

TITLE = "Between two members"

QUANTITY = {"cross_entropy": ("cross-entropy (nats)", 1), "accuracy": ("accuracy (%)", 100)}


def paths(candidates: pd.DataFrame) -> style.Plot:
    """The straight line through two members: cross-entropy and accuracy of (1 - w) θ_a + w θ_b against the weight w.

    Thin lines are pools (the mean over a pool's pairs), the thick line is their mean with a 95% Student-t band over
    pools, which are the unit of replication. The barrier, written in the panel or drawn at the right, is the largest
    height of a pair's path above the chord between its two members, averaged over the pairs of a pool and then over
    pools, with its 95% interval; a path that never rises above its chord has the barrier 0. A dotted line is chance,
    drawn where an accuracy is nearer to it than to 100%.
    """
    rows = unscaled(select_comparison(candidates))
    points = with_weight(rows)
    metrics = [name for name in QUANTITY if points[name].notna().any()]
    if not metrics:
        raise NothingToDrawError("candidates", "no `interpolation` without failures")
    data = pd.concat([_curve(points, metric) for metric in metrics], ignore_index=True)
    populations = sorted(set(points["population"]))
    variants = sorted(set(points["variant"]), key=lambda text: (text != "plain", text))
    lone = variants == ["plain"]
    figure, axes = style.grid(len(populations), len(metrics) + (not lone))
    for name, panels in zip(populations, axes, strict=True):
        for metric, panel in zip(metrics, panels, strict=False):
            _panel(panel, points[points["population"] == name], data[data["population"] == name], metric, variants)
        style.title(panels[0], name, style.recipe(points[points["population"] == name]))
        barriers = _barriers(rows[rows["population"] == name], metrics[0])
        if lone:
            _write_barrier(panels[0], barriers, metrics[0])
        else:
            _draw_barriers(panels[-1], barriers, metrics[0], variants)
    for panel in axes[-1][: len(metrics)]:
        panel.set_xlabel("weight w (0: first member, 1: second)")
    if not lone:
        labels = style.short(variants, methods=0)
        style.key(figure, [Line2D([], [], label=text, **style.series(i)) for i, text in enumerate(labels)])
    return style.Plot(figure, data, style.pools(points))


def _curve(points: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean over pools of a metric at each weight."""
    values = points.assign(value=points[metric], reason=exclusion_reason(points, metric))
    by = ["population", "variant", "weight"]
    return estimate_over_pools(values, by, estimand=f"mean {metric}").assign(metric=metric)


def _panel(axes: Axes, points: pd.DataFrame, data: pd.DataFrame, metric: str, variants: list[str]) -> None:
    """Draw each pool as a thin line and the mean over pools as a thick line, for each variant."""
    label, scale = QUANTITY[metric]
    for index, variant in enumerate(variants):
        look = style.series(index)
        own = points[(points["variant"] == variant) & (points["status"] == "ok")]
        for _, pool in own.groupby("pool_id"):
            mean = pool.groupby("weight")[metric].mean() * scale
            axes.plot(mean.index, mean, linewidth=0.8, alpha=0.5, **look)
        curve = data[(data["variant"] == variant) & (data["metric"] == metric)]
        axes.plot(curve["weight"], curve["estimate"] * scale, linewidth=2.2, **look)
        style.band(axes, curve["weight"], curve["low"] * scale, curve["high"] * scale, str(look["color"]))
    if metric == "accuracy":
        style.chance_line(axes, points, data.loc[data["metric"] == metric, "estimate"].min())
    axes.set_ylabel(label)
    axes.set_xlim(min(0.0, points["weight"].min()), max(1.0, points["weight"].max()))


def _barriers(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The chord barrier of each variant with its interval, in nats or in points of error."""
    found = path(rows, metric=metric, by=("population", *STEPS))
    found = found[found["quantity"] == QUANTITIES[0]]
    names = [variant_of(*steps) for steps in found[list(STEPS)].itertuples(index=False)]
    scale = 1 if metric == "cross_entropy" else 100
    return found.assign(variant=names, **{each: found[each] * scale for each in ("estimate", "low", "high")})


def _unit(metric: str) -> str:
    return "nats" if metric == "cross_entropy" else "points of error"


def _write_barrier(axes: Axes, barriers: pd.DataFrame, metric: str) -> None:
    """Write the barrier of the only variant above the curves."""
    for row in barriers.itertuples():
        interval = f" [{row.low:.3f}, {row.high:.3f}]" if row.n_units > 1 else ""
        text = f"barrier {row.estimate:.3f}{interval} {_unit(metric)}"
        axes.annotate(text, (0.5, 0.97), xycoords="axes fraction", ha="center", va="top", fontsize=8, color=style.INK)
    axes.margins(y=0.22)


def _draw_barriers(axes: Axes, barriers: pd.DataFrame, metric: str, variants: list[str]) -> None:
    """Draw the barrier of each variant as a mark with its interval, in the order of the legend."""
    for row in barriers.itertuples():
        index = variants.index(str(row.variant))
        if row.n_units > 1:
            axes.plot([row.low, row.high], [index, index], linewidth=1.5, color=style.series(index)["color"])
        axes.plot([row.estimate], [index], marker="o", markersize=5, color=style.series(index)["color"])
    axes.set_yticks([])
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.set_xlabel(f"barrier ({_unit(metric)})")
