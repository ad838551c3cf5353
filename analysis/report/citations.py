"""What to cite for a run: the works that the plug-ins in its rows state in `CITES`. They are in `citations.bib`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from analysis.core import registry
from analysis.core.constants import read_constant
from analysis.core.errors import AnalysisError
from analysis.rows.run import Run
from analysis.rows.select import METRICS
from sweep.storage.columns import KEYS

SYSTEM = (
    *("wang2024rethinking", "moritz2018ray", "liaw2018tune", "zaharia2018mlflow"),
    *("paszke2019pytorch", "harris2020numpy", "virtanen2020scipy"),
)
FAMILIES = ("holm1979simple", "benjamini1995controlling")
"""For verdicts on several estimates at once."""

OPTIONAL = ("figures", "claims")
"""Kinds whose files state `CITES` only if they rest on a work of their own."""

_BIBTEX = re.compile(r"^@\w+\{([^,]+),\n.*?^\}\n", flags=re.DOTALL | re.MULTILINE)
_COLUMNS = {
    "methods": "method",
    "alignments": "alignment",
    "scalings": "scaling",
    "repairs": "repair",
    "architectures": "architecture",
    "datasets": "dataset",
}


def used(run: Run) -> dict[str, list[str]]:
    """The names of each kind in the rows; statistics, figures and claims are those whose tables have rows."""
    rows = run.candidates
    frames = (run.candidates, run.members)
    found = {kind: sorted(set().union(*(_names(one, column) for one in frames))) for kind, column in _COLUMNS.items()}
    other = {name for text in rows["other_metrics"].dropna().unique() for name in json.loads(text)}
    found["metrics"] = [name for name in METRICS if rows[name].notna().any()] + sorted(other)
    filled = {table for table in KEYS if run.has(table)}
    for kind in ("statistics", *OPTIONAL):
        functions = {name: registry.get_plugin(kind, name) for name in registry.list_plugins(kind)}
        found[kind] = [name for name, function in functions.items() if set(registry.tables(function)) <= filled]
    return found


def _names(rows: pd.DataFrame, column: str) -> set[str]:
    """The names in a column, or none if the column is missing."""
    return set(rows[column].dropna().unique()) if column in rows else set()


def cite(run: Run) -> tuple[str, list[str]]:
    """BibTeX of the works that a run rests on, and the names whose files state none.

    A comment above each entry lists the names that rest on it. A plug-in's file states its works in `CITES`: keys of
    `citations.bib`, or whole BibTeX entries; an empty tuple if it needs none. Raises AnalysisError for an unknown key.
    """
    works = entries()
    reasons: dict[str, list[str]] = {key: ["this system"] for key in SYSTEM}
    unknown = []
    for kind, names in used(run).items():
        for name in names:
            cites = cited(kind, name)
            if cites is None and kind not in OPTIONAL:
                unknown.append(f"{kind}/{name}")
            for work in cites or ():
                key = _key(work, works, f"{kind}/{name}")
                reasons.setdefault(key, []).append(f"{kind}/{name}")
    for key in FAMILIES:
        reasons.setdefault(key, []).append("verdicts on several estimates")
    return "\n".join(f"% {', '.join(why)}\n{works[key]}" for key, why in reasons.items()), unknown


def cited(kind: str, name: str) -> tuple[str, ...] | None:
    """What the file of a plug-in states in `CITES`; None if it states nothing."""
    works: tuple[str, ...] | None = read_constant(kind, name, "CITES")
    return works


def _key(work: str, works: dict[str, str], place: str) -> str:
    """The key of a work; a whole BibTeX entry is added to `works`. Raises AnalysisError for an unknown key."""
    if work in works:
        return work
    entry = f"{work.strip()}\n"
    match = _BIBTEX.match(entry)
    if match is None:
        raise AnalysisError(place, f"CITES: no `{work}` in citations.bib", "a key of that file, or a BibTeX entry")
    works.setdefault(match[1], entry)
    return match[1]


def entries() -> dict[str, str]:
    """The entries of `citations.bib` by their keys, each with a line break at its end."""
    text = Path(__file__).with_suffix(".bib").read_text(encoding="utf-8")
    return {match[1]: match[0] for match in _BIBTEX.finditer(text)}
