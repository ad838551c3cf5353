"""A run as one page that stands alone: figures, tables, failures and provenance in a single HTML file."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from analysis import catalogue, draw, numbers, summary
from analysis.errors import NothingToDrawError
from analysis.load import Run

SHOWN_ROWS = 200
EMBEDDED_BYTES = 300_000
SECTIONS = {
    "spaces": "Weights, features or logits",
    "paths": "Between two members",
    "scale": "Sensitivity to magnitude",
    "training": "Training of the members",
}
HIDDEN = ("estimand", "unit", "p")


def write(run: Run, path: Path, tell: Callable[[str], None] = lambda _: None) -> None:
    """Writes the report of a run; the same rows give the same bytes. `tell` hears each step."""
    figures, missing = _figures(run, tell)
    tell("writing tables")
    rows = run.candidates
    page = _template().render(
        name=str(run.info.get("sweep") or run.folder.resolve().name),
        run=run,
        invocations=[_invocation(one) for one in run.info.get("invocations", []) if isinstance(one, dict)],
        counts=summary.counts(rows),
        trained=int(((run.members["role"] == "member") & (run.members["status"] == "ok")).sum()),
        pools=int(rows["pool_id"].nunique() or run.members["pool_id"].nunique()),
        populations=summary.populations(run.members, rows),
        versus=summary.versus(rows, only="uniform_soup"),
        everything=summary.versus(rows),
        barriers=summary.barriers(rows),
        best=summary.best(rows),
        failures=summary.failures(rows, run.members),
        figures=figures,
        missing=missing,
    )
    path.write_text(page, encoding="utf-8")


def _template() -> jinja2.Template:
    """The page, with every name from a configuration escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    environment = jinja2.Environment(loader=loader, autoescape=True, **options)  # type: ignore[arg-type]
    environment.filters["whole"] = numbers.whole
    return environment.get_template("report.html")


def _figures(run: Run, tell: Callable[[str], None]) -> tuple[list[dict[str, Any]], list[str]]:
    """Every figure of the folder that has rows, known sections first, and why the others are missing."""
    known = [name for name in SECTIONS if name in catalogue.names("figures")]
    others = [name for name in catalogue.names("figures") if name not in SECTIONS]
    found, missing = [], []
    for name in known + others:
        tell(f"drawing {name}")
        try:
            found.append(_figure(run, name))
        except NothingToDrawError as error:
            missing.append(f"{name}: {error.what}")
    return found, missing


def _figure(run: Run, name: str) -> dict[str, Any]:
    """What the page needs of one figure."""
    plot = draw.draw(name, run)
    caption = catalogue.caption(catalogue.find("figures", name))
    csv = draw.csv(plot)
    embedded = base64.b64encode(csv.encode()).decode() if len(csv) <= EMBEDDED_BYTES else ""
    columns = [column for column in plot.data.columns if column not in HIDDEN]
    table = [[_text(value) for value in row] for row in plot.data[columns].head(SHOWN_ROWS).itertuples(index=False)]
    return {
        "name": name,
        "title": SECTIONS.get(name, name.replace("_", " ").capitalize()),
        "svg": draw.inline(plot, name, str(jinja2.filters.do_forceescape(caption[0]))),
        "caption": caption,
        "replication": plot.replication,
        "columns": columns,
        "table": table,
        "rows": len(plot.data),
        "csv": embedded,
    }


def _text(value: Any) -> str:
    """A value of a data table."""
    if isinstance(value, tuple):
        return "; ".join(value)
    if not isinstance(value, float):
        return str(value)
    return numbers.NONE if math.isnan(value) else f"{value:.5g}".replace("-", numbers.MINUS).replace("inf", "∞")


def _invocation(one: dict[str, Any]) -> dict[str, Any]:
    """One start of the command, with the keys that it lacks as dashes."""
    machine = one.get("machine") or {}
    memory = machine.get("memory_bytes")
    parts = [machine.get("host"), machine.get("cpu"), f"{machine['cores']} cores" if machine.get("cores") else None]
    parts += [f"{numbers.size(memory)} memory" if memory else None, *(machine.get("accelerators") or [])]
    return {
        "started_at": numbers.when(str(one.get("started_at") or numbers.NONE)),
        "finished_at": numbers.when(str(one.get("finished_at") or "not finished")),
        "command": str(one.get("command") or numbers.NONE),
        "code": _code(one),
        "versions": ", ".join(f"{name} {text}" for name, text in (one.get("versions") or {}).items()),
        "machine": ", ".join(str(text) for text in parts if text),
    }


def _code(one: dict[str, Any]) -> str:
    """Version, commit where the version does not name it, and whether there were changes on top."""
    version, commit = str(one.get("code_version") or ""), str(one.get("commit") or "")[:10]
    named = commit and commit[:7] in version
    texts = [version, "" if named else commit, "with uncommitted changes" if one.get("dirty") else ""]
    return " ".join(text for text in texts if text).replace(".dirty with", " with")
