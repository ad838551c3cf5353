"""Tables of statistics that have no figure: what `analysis stats NAME` prints, for the page."""

from __future__ import annotations

from typing import Any

from analysis.core import registry
from analysis.core.errors import AnalysisError
from analysis.display.tables import table
from analysis.rows.run import Run

TITLES = {
    "chosen_members": "How many members searches choose",
    "two_way_difference": "Soup minus ensemble, for new pools and new test images",
    "stages": "Stages of the path between two members",
    "dominance": "Share of a multiplied member in a merge",
    "power": "Pools needed for a difference of the margin",
}
"""The statistics of this section with their headings, in order."""

OF_MARGIN = {"two_way_difference": "margin", "power": "effect"}
"""The setting that is the margin of the run."""

MOST_ROWS = 60


def further(run: Run) -> list[dict[str, Any]]:
    """The tables of `TITLES` that the run has rows for; the others are left out."""
    found = [_table(run, name) for name in TITLES]
    return [one for one in found if one is not None]


def _table(run: Run, name: str) -> dict[str, Any] | None:
    """One statistic with its default settings, at the margin of the run; None without rows."""
    function = registry.get_plugin("statistics", name)
    needed = registry.tables(function)
    if not all(run.has(one) for one in needed):
        return None
    settings = {OF_MARGIN[name]: run.margin} if name in OF_MARGIN else {}
    try:
        found = function(*(run.table(one) for one in needed), **settings)
    except AnalysisError:
        return None
    shown = table(found.head(MOST_ROWS))
    about = {"name": name, "title": TITLES[name], "caption": registry.caption(function)[0], "rows": len(found)}
    about |= {"settings": " ".join(f"{key}={value}" for key, value in settings.items())}
    return about | {"heads": list(zip(shown.heads, shown.numeric, strict=True)), "table": shown}
