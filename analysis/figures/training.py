"""Training curves of the members."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.core.errors import NothingToDrawError
from analysis.display import style
from sweep.core.text import format_count

TITLE = "Training of the members"


def training(curves: pd.DataFrame) -> style.Plot:
    """Training of the members: validation accuracy and training loss after each epoch, one line per member.

    Pools differ in color and dash; only members of one pool are merged. Lines that agree within a pool but not between
    pools show why the pool, and not the member, is the unit of replication. The training of the shared start is not
    shown. The training loss is the optimized one, including label smoothing and mixup.
    """
    rows = curves[curves["role"] == "member"]
    if rows.empty:
        raise NothingToDrawError("curves", "no epochs of members")
    populations = sorted(set(rows["population"]))
    indices = sorted(set(rows["pool"]))
    figure, axes = style.grid(len(populations), 2, height=2.3)
    for name, (left, right) in zip(populations, axes, strict=True):
        own = rows[rows["population"] == name]
        _lines(left, own, "validation_accuracy", 100)
        _lines(right, own, "train_loss", 1)
        style.title(left, name, f"{style.recipe(own)}, {format_count(own['member_id'].nunique(), 'member')}")
        left.set_ylabel("validation accuracy (%)")
        right.set_ylabel("training loss (nats)")
    for panel in axes[-1]:
        panel.set_xlabel("epoch")
    style.key(
        figure, [Line2D([], [], label=f"pool {index}", **style.series(index)) for index in indices[:8]], columns=8
    )
    columns = ["population", "pool", "member_index", "member_id", "epoch", "learning_rate"]
    data = rows[[*columns, "train_loss", "validation_accuracy", "validation_cross_entropy", "seconds"]]
    return style.Plot(figure, data.sort_values(["population", "pool", "member_index", "epoch"]), style.pools(rows))


def _lines(axes: Axes, rows: pd.DataFrame, column: str, scale: float) -> None:
    """Draw one line per member; a single epoch is a dot."""
    for _, member in rows.sort_values("epoch").groupby("member_id"):
        look = style.series(int(member["pool"].iloc[0]))
        mark = "." if len(member) == 1 else ""
        axes.plot(member["epoch"], member[column] * scale, marker=mark, linewidth=1, alpha=0.75, **look)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
