"""Estimates as a text table, LaTeX, CSV and JSON; every p-value is beside its interval."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.display import numbers
from analysis.inference.estimate import LEVEL, Estimate
from sweep.core.text import align_columns, null_non_finite

FORMS = ("txt", "json", "csv", "tex")
_BOOTSTRAP = ("bootstrap_low", "bootstrap_high")
_FIELDS = (*(field.name for field in fields(Estimate)), *_BOOTSTRAP)
_INFINITY = "∞"
_TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", numbers.NONE: "--", numbers.MINUS: "$-$"},
    **{_INFINITY: r"$\infty$", "²": "$^2$", "±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$"},
}


@dataclass(frozen=True)
class Table:
    """Estimates as texts: the estimand as title, `heads`, `rows` with one text per head, and notes below the table.

    `numeric` marks the right-aligned columns.
    """

    title: str
    heads: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def render(found: pd.DataFrame, form: str) -> str:
    """The estimates in a form of `FORMS`, with a line break at the end.

    `json` is a list of records; NaN and infinite values (no interval, no bound) are null, because JSON has neither.
    `csv` has every column, too. `txt` and `tex` leave out the standard error and its degrees of freedom.
    """
    if form == "csv":
        return csv(found)
    if form == "json":
        return as_json(found.to_dict("records"))
    return tex(table(found)) if form == "tex" else text(table(found))


def form_of(path: Path | None) -> str:
    """The form that the ending of a file names; `txt` without a file. Raises AnalysisError for other endings."""
    if path is None:
        return FORMS[0]
    ending = path.suffix[1:].lower()
    if ending not in FORMS:
        raise AnalysisError(str(path), f"cannot write `{path.suffix}`", f"end in one of .{', .'.join(FORMS)}")
    return ending


def csv(found: pd.DataFrame) -> str:
    """Every column, the warnings of a row in one cell."""
    if "warnings" in found:
        found = found.assign(warnings=["; ".join(texts) for texts in found["warnings"]])
    return str(found.to_csv(index=False, lineterminator="\n"))


def as_json(content: Any) -> str:
    """JSON with a line break at the end; numbers that it cannot say are null."""
    return json.dumps(null_non_finite(content), indent=1, default=str, ensure_ascii=False) + "\n"


def table(found: pd.DataFrame) -> Table:
    """Groups, estimate, interval, n with its unit, then p-value, margin and verdict if there are any."""
    marks, notes = _marks(found)
    estimands = list(dict.fromkeys(found["estimand"]))
    columns = {name: _column(found[name]) for name in found.columns if name not in _FIELDS}
    columns |= {"estimand": found["estimand"].tolist()} if len(estimands) > 1 else {}
    columns["estimate"] = [number(value) for value in found["estimate"]]
    ends = zip(found["low"], found["high"], strict=True)
    columns[f"{LEVEL:.0%} interval"] = [interval(low, high) for low, high in ends]
    if set(_BOOTSTRAP) <= set(found) and found[_BOOTSTRAP[0]].notna().any():
        ends = zip(*(found[name] for name in _BOOTSTRAP), strict=True)
        columns["bootstrap-t"] = [interval(low, high) if low == low else numbers.NONE for low, high in ends]
    columns["n"] = [str(n) for n in found["n_units"]]
    columns["unit"] = found["unit"].tolist()
    for name, head in (("p", "p"), ("p_adjusted", "adjusted p")):
        columns |= {head: [numbers.p_value(value) for value in found[name]]} if found[name].notna().any() else {}
    columns |= {"margin": _column(found["margin"])} if found["margin"].notna().any() else {}
    columns |= {"verdict": found["verdict"].tolist()} if found["verdict"].any() else {}
    columns |= {"notes": marks} if notes else {}
    right = [head not in ("estimand", "unit", "verdict", "notes") for head in columns]
    texts = {name for name in found.columns if name not in _FIELDS and not pd.api.types.is_numeric_dtype(found[name])}
    numeric = tuple(flush and head not in texts for flush, head in zip(right, columns, strict=True))
    title = estimands[0] if len(estimands) == 1 else ""
    return Table(title, tuple(columns), numeric, tuple(zip(*columns.values(), strict=True)), notes)


def _marks(found: pd.DataFrame) -> tuple[list[str], tuple[str, ...]]:
    """The note numbers of each row, and the notes: the warnings of the estimates, each text once."""
    place: dict[str, int] = {}
    for texts in found["warnings"]:
        for one in texts:
            place.setdefault(one, len(place) + 1)
    return [", ".join(str(place[one]) for one in texts) for texts in found["warnings"]], tuple(place)


def _column(values: pd.Series) -> list[str]:
    """A column of groups or further numbers, as texts."""
    return [number(value) if isinstance(value, float) else str(value) for value in values]


def number(value: float) -> str:
    """A number with four decimals, or three significant digits if very small or large; a dash for NaN."""
    if math.isnan(value):
        return numbers.NONE
    if math.isinf(value):
        return _INFINITY if value > 0 else numbers.MINUS + _INFINITY
    if 1e-3 <= abs(value) < 1e5:
        return numbers.fixed(value, 4)
    return f"{value:.3g}".replace("-", numbers.MINUS) if value else "0"


def interval(low: float, high: float) -> str:
    """An interval, possibly with one infinite end; `none` if both ends are infinite or NaN."""
    known = math.isfinite(low) or math.isfinite(high)
    return f"[{number(low)}, {number(high)}]" if known else "none"


def text(shown: Table) -> str:
    """The table as aligned columns, with the notes below."""
    lines = align_columns([shown.heads, *shown.rows], numeric=shown.numeric)
    notes = [f"{place}: {note}" for place, note in enumerate(shown.notes, 1)]
    return "\n".join([*([shown.title] if shown.title else []), *lines, *notes]) + "\n"


def tex(shown: Table) -> str:
    """The table as a LaTeX tabular with booktabs rules; every text is escaped."""
    spec = "".join("r" if flush else "l" for flush in shown.numeric)
    lines = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{spec}}}", r"\toprule"]
    if shown.title:
        lines.append(rf"\multicolumn{{{len(spec)}}}{{l}}{{{escaped(shown.title)}}} \\")
    lines += [_tex_row(shown.heads), r"\midrule", *map(_tex_row, shown.rows), r"\bottomrule"]
    for place, note in enumerate(shown.notes, 1):
        lines.append(rf"\multicolumn{{{len(spec)}}}{{l}}{{\footnotesize {place}: {escaped(note)}}} \\")
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def _tex_row(cells: Sequence[str]) -> str:
    """One row of a tabular."""
    return " & ".join(map(escaped, cells)) + r" \\"


def escaped(value: str) -> str:
    """A text escaped for LaTeX."""
    return "".join(_TEX.get(sign, sign) for sign in value)
