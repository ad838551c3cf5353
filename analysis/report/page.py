"""A run as one report: an HTML page that stands alone, Markdown with files beside it, or a PDF of the page."""

from __future__ import annotations

import base64
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from analysis.core import registry as catalogue
from analysis.core.constants import read_constant
from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.display import draw, numbers, style
from analysis.report import pdf as printing
from analysis.report import tables as summary
from analysis.report.audit_table import defects
from analysis.report.claims import answers
from analysis.rows.protocols import protocols, short
from analysis.rows.run import Run

FORMS = ("html", "md", "pdf")
SHOWN_ROWS = 80
EMBEDDED_BYTES = 60_000
MOST_POPULATIONS = 6
"""Populations in the figures of a report, by default: a page of many more is neither read nor sent."""
ORDER = (
    *("spaces", "number", "scale", "norms", "paths", "plane", "kinship"),
    *("layers", "ridges", "shrinkage", "filters", "patterns", "templates", "diversity"),
    *("calibration", "variance", "pareto", "training", "audit"),
)
"""Figures in the order of the report's sections; others follow by name."""
ACROSS = ("patterns", "templates")
"""Figures that put populations into one panel, where a part of them would say something else: they show all."""
HIDDEN = ("estimand", "unit", "p")

Tell = Callable[[str], None]
Place = Callable[[str, style.Plot], dict[str, str]]
"""Puts a figure where a reader of the report finds it: its picture (`svg`) and its rows (`csv`, empty where too large),
inside the report or as links to files."""


def write(
    run: Run, path: Path, tell: Tell = lambda _: None, form: str = "html", populations: int | None = MOST_POPULATIONS
) -> None:
    """Writes the report of a run in one of `FORMS`; the same rows give the same bytes. `tell` hears each step.

    Figures and the table of every merge show the first so many `populations`, by name, or all for None; claims and
    other tables are about all of them.
    Markdown has its figures and their rows as files in a folder `<stem>_files` beside it. Raises AnalysisError for
    another form, and for a PDF where no browser is found.
    """
    if form not in FORMS:
        raise AnalysisError(str(path), f"no report in `{form}`", f"one of {', '.join(FORMS)}")
    if form == "pdf":
        _write_pdf(run, path, tell, populations)
        return
    found = context(run, _beside(path) if form == "md" else _inside, tell, populations)
    tell("writing")
    path.write_text(_template(form).render(found), encoding="utf-8")


def _write_pdf(run: Run, path: Path, tell: Tell, populations: int | None) -> None:
    """The page as a browser prints it; the browser is looked for before anything is drawn."""
    browser = printing.browser()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write(run, page, tell, populations=populations)
        tell("printing")
        printing.print_pdf(browser, page, path)


def context(
    run: Run, place: Place, tell: Tell = lambda _: None, populations: int | None = MOST_POPULATIONS
) -> dict[str, Any]:
    """Everything that a report shows, by the names that the templates use."""
    shown = run.populations[:populations]
    figures, missing = _figures(run, shown, place, tell)
    tell("making tables")
    rows = run.candidates
    pairs, asked = summary.differences(rows), answers(run)
    return {
        "name": str(run.info.get("sweep") or run.folder.resolve().name),
        "run": run,
        "invocations": [_invocation(one) for one in run.info.get("invocations", []) if isinstance(one, dict)],
        "counts": summary.counts(rows),
        "trained": int(((run.members["role"] == "member") & (run.members["status"] == "ok")).sum()),
        "pools": int(rows["pool_id"].nunique() or run.members["pool_id"].nunique()),
        "claims": summary.claims(asked),
        "defects": defects(asked),
        "together": {short(one): one.replace("+", ", ") for one in protocols(rows) if short(one) != one},
        "populations": summary.populations(run.members, rows),
        "versus": summary.versus(pairs, only="uniform_soup"),
        "everything": summary.versus(pairs, populations=shown),
        "barriers": summary.barriers(rows),
        "best": summary.best(rows),
        "failures": summary.failures(rows, run.members),
        "margin": numbers.fixed(100 * run.margin, 2),
        "fixed_at": next((numbers.when(str(one["started_at"])) for one in _margins(run)), ""),
        "drawn": [figure["name"] for figure in figures],
        "methods": [
            {"name": one, "caption": catalogue.caption(catalogue.get_plugin("statistics", one))}
            for one in catalogue.list_plugins("statistics")
        ],
        "figures": figures,
        "undrawn": run.populations[len(shown) :],
        "missing": missing,
    }


def _margins(run: Run) -> list[dict[str, Any]]:
    """The invocations that stated a margin, in order."""
    return [one for one in run.info.get("invocations", []) if isinstance(one, dict) and "margin" in one]


def _template(form: str) -> jinja2.Template:
    """The page or the Markdown, with every name from a configuration escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    environment = jinja2.Environment(loader=loader, autoescape=form == "html", **options)  # type: ignore[arg-type]
    filters: dict[str, Callable[[Any], str]] = {"whole": numbers.whole, "cell": markdown, "prose": prose}
    environment.filters |= filters
    return environment.get_template(f"report.{form}")


def prose(text: str) -> markupsafe.Markup:
    """A text of the documentation for the page: what stands in backticks as code."""
    return markupsafe.Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def markdown(value: Any) -> str:
    """A text that Markdown shows as it is, also inside a table."""
    text = " ".join(str(value).split())
    for sign in "\\`*_[]<>|~$":
        text = text.replace(sign, f"\\{sign}")
    return text


def _inside(name: str, plot: style.Plot) -> dict[str, str]:
    """A figure and its rows inside the page; rows that are too many stay out."""
    caption = catalogue.caption(catalogue.get_plugin("figures", name))
    csv = draw.csv(plot)
    embedded = base64.b64encode(csv.encode()).decode() if len(csv) <= EMBEDDED_BYTES else ""
    return {"svg": draw.inline(plot, name, str(jinja2.filters.do_forceescape(caption[0]))), "csv": embedded}


def _beside(path: Path) -> Place:
    """Figures and their rows as files in a folder beside the report; gives links to them."""
    folder = path.with_name(f"{path.stem}_files")

    def save(name: str, plot: style.Plot) -> dict[str, str]:
        folder.mkdir(exist_ok=True)
        for suffix in ("svg", "csv"):
            draw.save(plot, name, folder / f"{name}.{suffix}")
        return {suffix: f"<{folder.name}/{name}.{suffix}>" for suffix in ("svg", "csv")}

    return save


def _figures(run: Run, shown: list[str], place: Place, tell: Tell) -> tuple[list[dict[str, Any]], list[str]]:
    """Every figure of the folder that has rows, known sections first, and why the others are missing."""
    part = run.only(shown) if len(shown) < len(run.populations) else run
    known = [name for name in ORDER if name in catalogue.list_plugins("figures")]
    names = known + [name for name in catalogue.list_plugins("figures") if name not in ORDER]
    answers = [_drawn(run if name in ACROSS else part, name, place, tell) for name in names]
    return [one for one in answers if isinstance(one, dict)], [one for one in answers if isinstance(one, str)]


def _drawn(run: Run, name: str, place: Place, tell: Tell) -> dict[str, Any] | str:
    """One figure, or why it is missing."""
    tell(f"drawing {name}")
    try:
        plot = draw.draw(name, run)
    except NothingToDrawError as error:
        return f"{name}: {error.what}"
    return _figure(name, plot) | place(name, plot)


def _figure(name: str, plot: style.Plot) -> dict[str, Any]:
    """What a report says of one figure, and its first rows."""
    columns = [column for column in plot.data.columns if column not in HIDDEN]
    table = [[_text(value) for value in row] for row in plot.data[columns].head(SHOWN_ROWS).itertuples(index=False)]
    return {
        "name": name,
        "title": read_constant("figures", name, "TITLE") or name.replace("_", " ").capitalize(),
        "caption": catalogue.caption(catalogue.get_plugin("figures", name)),
        "replication": plot.replication,
        "columns": columns,
        "table": table,
        "rows": len(plot.data),
        "whole": name in ACROSS,
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
