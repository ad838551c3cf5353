"""Statistics, figures, claims and a report from the rows of a run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.core import registry
from analysis.rows.run import Run, load
from analysis.rows.runs import load_runs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Run", "load", "load_runs", "plot", "statistic"]


def statistic(run: Run, name: str, **settings: Any) -> pd.DataFrame:
    """The estimates of a statistic in `analysis/statistics/`, from the tables of a run.

    Raises AnalysisError for an unknown name, and if the rows do not suffice.
    """
    function = registry.get_plugin("statistics", name)
    found: pd.DataFrame = function(*(run.table(table) for table in registry.tables(function)), **settings)
    return found


def plot(run: Run, figure: str) -> Figure:
    """A figure in `analysis/figures/` as a matplotlib figure.

    Raises AnalysisError for an unknown name, and if the run has no rows for it.
    """
    from analysis.display.draw import draw

    return draw(figure, run).figure
