"""Draw figures by name, as SVG text for a page or as files."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from analysis.core import registry
from analysis.core.errors import AnalysisError
from analysis.core.files import write_file
from analysis.display import style, tables
from analysis.display.svg import simplify
from analysis.rows.run import Run

SUFFIXES = (".svg", ".pdf", ".png", ".csv")
_NO_DATE: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}


def draw(name: str, run: Run) -> style.Plot:
    """Draw the figure of that name from the tables that its parameters name.

    Raises AnalysisError for an unknown name, and NothingToDrawError if the run has no rows for it.
    """
    function = registry.get_plugin("figures", name)
    with style.context(name):
        plot: style.Plot = function(**run.tables_of(registry.tables(function), registry.optional_tables(function)))
    return plot


def save(plot: style.Plot, name: str, path: Path) -> None:
    """Write the figure (svg, pdf, png) or its table (csv); equal rows give equal bytes.

    Raises AnalysisError for another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise AnalysisError(str(path), f"cannot write `{suffix}`", f"end in one of {', '.join(SUFFIXES)}")
    if suffix == ".csv":
        write_file(path, csv(plot))
        return
    with style.context(name), io.BytesIO() as buffer:
        plot.figure.savefig(buffer, format=suffix[1:], metadata=_NO_DATE[suffix], dpi=200, facecolor="white")
        write_file(path, buffer.getvalue())


def csv(plot: style.Plot) -> str:
    """The rows of the figure as CSV."""
    return tables.csv(plot.data)


def inline(plot: style.Plot, name: str, description: str) -> str:
    """The figure as SVG for embedding in a page: unique ids, colors from the page's theme, no URLs."""
    with style.context(name), io.StringIO() as buffer:
        plot.figure.savefig(buffer, format="svg", metadata={"Date": None})
        text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    for ink, variable in ((style.INK, "ink"), (style.MUTED, "muted"), (style.GRID, "rule")):
        text = text.replace(f": {ink}", f": var(--{variable}, {ink})")
    text = re.sub(r"font: ([^;\"]*?)'DejaVu Sans', sans-serif", r"font: \1var(--sans)", text)
    width, height = re.findall(r'\b(?:width|height)="([\d.]+)pt"', text)[:2]
    head = f'<svg role="img" aria-label="{description}" viewBox="0 0 {width} {height}">'
    return simplify(head + text[text.index(">") + 1 :], name)
