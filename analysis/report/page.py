"""The report of a run: a self-contained HTML page, Markdown with files beside it, or a PDF of the page."""

from __future__ import annotations

import base64
import math
import re
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd

from analysis.core import registry
from analysis.core.constants import read_constant
from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.core.files import CannotWriteError, make_folder, write_file
from analysis.display import draw, numbers, style
from analysis.report import pdf, tables
from analysis.report.audit_table import defects
from analysis.report.claims import Answer, answers, family_text, notes, plan_text, record_looks
from analysis.report.forest import draw_forest, forest
from analysis.report.statistics_tables import further
from analysis.rows.protocols import CORRECT, correct_name, protocols, short
from analysis.rows.run import Run
from sweep.core.causes import describe

FORMS = ("html", "md", "pdf")
SHOWN_ROWS = 80
EMBEDDED_BYTES = 60_000
MOST_POPULATIONS = 6
"""Default number of populations in the figures of a report: more make the page long and large."""
ORDER = (
    *("spaces", "number", "scale", "norms", "paths", "plane", "kinship"),
    *("layers", "ridges", "shrinkage", "filters", "patterns", "templates", "diversity"),
    *("critical_difference", "performance_profile"),
    *("calibration", "variance", "pareto", "training", "audit"),
)
"""Figures in the order of the report's sections; others follow by name."""
ACROSS = ("patterns", "templates")
"""Figures with all populations in one panel; these always show all populations, because a part would mislead."""
_NO_TABLE: dict[str, Any] = {"columns": [], "rows": [], "variants": 0}
_NO_MERGES = pd.DataFrame(columns=["population", "n_members", "label"])
HIDDEN = ("estimand", "unit", "p")

Progress = Callable[[str], None]
"""Called with a text before each step."""
Place = Callable[[str, style.Plot], dict[str, str]]
"""Stores a figure for the report: returns its picture (`svg`) and its rows (`csv`, empty if too large), as contents to
embed or as links to files."""


def write(
    run: Run,
    path: Path,
    progress: Progress = lambda _: None,
    form: str = "html",
    populations: int | None = MOST_POPULATIONS,
) -> list[str]:
    """Write the report of a run in one of `FORMS`; equal rows give equal bytes. `progress` is called before each step.

    Returns the parts that failed, each with its reason, which the report has in their place.

    Figures and the table of every merge show the first `populations` by name, or all if it is None; claims and other
    tables cover all populations. Markdown has its figures and their rows as files in a folder `<stem>_files` beside
    it. Raises AnalysisError for an unknown form, and for a PDF without a browser.
    """
    if form not in FORMS:
        raise AnalysisError(str(path), f"no report in `{form}`", f"one of {', '.join(FORMS)}")
    if form == "pdf":
        return _write_pdf(run, path, progress, populations)
    found = context(run, _beside(path) if form == "md" else _inside, progress, populations)
    progress("writing")
    write_file(path, _template(form).render(found))
    figures = [f"figure {one['name']}: {one['failed']}" for one in found["figures"] if one["failed"]]
    return [*figures, *found["broken"]]


def _write_pdf(run: Run, path: Path, progress: Progress, populations: int | None) -> list[str]:
    """Print the HTML page with a browser; a missing browser is reported before anything is drawn."""
    browser = pdf.browser()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        failed = write(run, page, progress, populations=populations)
        progress("printing")
        pdf.print_pdf(browser, page, path)
    return failed


def context(
    run: Run, place: Place, progress: Progress = lambda _: None, populations: int | None = MOST_POPULATIONS
) -> dict[str, Any]:
    """The variables of the templates: everything that a report shows."""
    shown, undrawn = shown_populations(run, populations)
    figures, missing = _figures(run, shown, place, progress)
    progress("making tables")
    broken: list[str] = []
    attempt = partial(_attempt, broken)
    claims: list[Answer] = attempt("claims", lambda: answers(run), [])
    broken += [f"claim {one.name}: {one.missing}" for one in claims if one.failed]
    unrecorded = record_looks(run, claims)
    return {
        "notes": [*run.warnings, *notes(run), *([unrecorded] if unrecorded else [])],
        "name": str(run.info.get("sweep") or run.folder.resolve().name),
        "run": run,
        "invocations": [_invocation(one) for one in run.invocations],
        **_counts(run),
        "claims": attempt("claims", lambda: tables.claims(claims), []),
        "forest": attempt("forest", lambda: _forest(claims, place), None),
        "defects": attempt("defects", lambda: defects(claims), []),
        **_tables(run, shown, attempt),
        "family": family_text(run),
        "plan": plan_text(run),
        "margin": _margin_text(run.margins),
        "fixed_at": next((numbers.when(str(one.get("started_at"))) for one in _margins(run)), ""),
        "drawn": [figure["name"] for figure in figures if not figure["failed"]],
        "methods": [
            {"name": one, "caption": registry.caption(registry.get_plugin("statistics", one))}
            for one in registry.list_plugins("statistics")
        ],
        "figures": figures,
        "undrawn": undrawn,
        "missing": missing,
        "broken": broken,
    }


def _counts(run: Run) -> dict[str, Any]:
    """How many merges, trained members and pools the run has, and the protocols that its rows share."""
    rows = run.candidates
    members = run.members
    return {
        "counts": tables.counts(rows),
        "trained": int(((members["role"] == "member") & (members["status"] == "ok")).sum()),
        "pools": int(rows["pool_id"].nunique() or members["pool_id"].nunique()),
        "together": {short(one): one.replace("+", ", ") for one in protocols(rows) if short(one) != one},
    }


def shown_populations(run: Run, most: int | None) -> tuple[list[str], list[str]]:
    """The populations of figures, the first `most` with those trained again under defects, and the others.

    Those trained again are drawn with the population that they are compared with, and are not counted.
    """
    correct = set(run.candidates.loc[run.candidates["protocol"] == CORRECT, "population"])
    names = {name: correct_name(name, correct) for name in run.populations}
    first = sorted(set(names.values()))[:most]
    return [name for name, own in names.items() if own in first], sorted(set(names.values()) - set(first))


def _tables(run: Run, shown: list[str], attempt: Callable[..., Any]) -> dict[str, Any]:
    """The tables of the page by their names in the templates."""
    rows = run.candidates
    predictions = run.table("predictions") if run.has("predictions") else None
    pairs = attempt(
        "differences", lambda: tables.differences(rows, predictions), tables.Differences(_NO_MERGES, [], {})
    )
    return {
        "populations": attempt("populations", lambda: tables.populations(run.members, rows), []),
        "versus": attempt("versus", lambda: tables.versus(pairs, only="uniform_soup"), _NO_TABLE),
        "everything": attempt("everything", lambda: tables.versus(pairs, populations=shown), _NO_TABLE),
        "barriers": attempt("barriers", lambda: tables.barriers(rows, predictions), []),
        "further": attempt("further", lambda: further(run), []),
        "best": attempt("best", lambda: tables.best(rows), []),
        "failures": attempt("failures", lambda: tables.failures(rows, run.members), []),
    }


def _attempt(broken: list[str], name: str, make: Callable[[], Any], empty: Any) -> Any:
    """A part of the report; `empty`, with the reason in `broken`, if making it fails."""
    try:
        return make()
    except Exception as error:  # one table that fails must not cost the reader the report
        broken.append(f"table {name}: {describe(error)}")
        return empty


_MARGIN_UNITS = {
    "accuracy": (100, "points of accuracy"),
    "accuracy_per_model": (100, "points of accuracy per model"),
    "retention": (100, "points of retention"),
    "correlation": (1, "of correlation"),
    "slope": (1, "of correlation per factor of ten"),
}


def _margin_text(margins: Mapping[str, float]) -> str:
    """The margins of all kinds of quantities as text."""
    return ", ".join(
        f"{numbers.fixed(scale * margins[kind], 2)} {unit}" for kind, (scale, unit) in _MARGIN_UNITS.items()
    )


def _margins(run: Run) -> list[dict[str, Any]]:
    """The invocations that recorded a margin, in order."""
    return [one for one in run.invocations if "margin" in one]


def _template(form: str) -> jinja2.Template:
    """The template of a form; names from configurations are escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    environment = jinja2.Environment(loader=loader, autoescape=form == "html", **options)  # type: ignore[arg-type]
    filters: dict[str, Callable[[Any], str]] = {"whole": numbers.whole, "cell": markdown, "prose": prose}
    environment.filters |= filters
    return environment.get_template(f"report.{form}")


def prose(text: str) -> markupsafe.Markup:
    """A docstring for the page: escaped, with backticks as code."""
    return markupsafe.Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def markdown(value: Any) -> str:
    """A text escaped for Markdown, also inside a table."""
    text = " ".join(str(value).split())
    for sign in "\\`*_[]<>|~$":
        text = text.replace(sign, f"\\{sign}")
    return text


def _inside(name: str, plot: style.Plot) -> dict[str, str]:
    """A figure and its rows to embed in the page; the rows are left out if they are too large."""
    caption = _caption(name)
    csv = draw.csv(plot)
    embedded = base64.b64encode(csv.encode()).decode() if len(csv) <= EMBEDDED_BYTES else ""
    return {"svg": draw.inline(plot, name, str(jinja2.filters.do_forceescape(caption[0]))), "csv": embedded}


def _caption(name: str) -> list[str]:
    """The documentation of a figure, or of the forest plot of claims."""
    return registry.caption(forest if name == forest.__name__ else registry.get_plugin("figures", name))


def _forest(claims: list[Answer], place: Place) -> dict[str, Any] | None:
    """The variables of the forest plot; None without a claim of several cells."""
    try:
        plot = draw_forest(claims)
    except NothingToDrawError:
        return None
    about = {"caption": _caption(forest.__name__), "replication": plot.replication}
    return about | place(forest.__name__, plot)


def _beside(path: Path) -> Place:
    """A `Place` that saves figures and their rows in a folder beside the report and returns links to them."""
    folder = path.with_name(f"{path.stem}_files")

    def save(name: str, plot: style.Plot) -> dict[str, str]:
        make_folder(folder)
        for suffix in ("svg", "csv"):
            draw.save(plot, name, folder / f"{name}.{suffix}")
        return {suffix: f"<{folder.name}/{name}.{suffix}>" for suffix in ("svg", "csv")}

    return save


def _figures(run: Run, shown: list[str], place: Place, progress: Progress) -> tuple[list[dict[str, Any]], list[str]]:
    """The figures in the order of their sections, those that failed with the reason; why others have no rows."""
    part = run.only(shown) if len(shown) < len(run.populations) else run
    known = [name for name in ORDER if name in registry.list_plugins("figures")]
    names = known + [name for name in registry.list_plugins("figures") if name not in ORDER]
    figures: list[dict[str, Any]] = []
    missing: list[str] = []
    for name in names:
        progress(f"drawing {name}")
        about = {"name": name, "title": _title(name), "failed": ""}
        try:
            plot = draw.draw(name, run if name in ACROSS else part)
            figures.append(about | _figure(name, plot) | place(name, plot))
        except NothingToDrawError as error:
            missing.append(f"{name}: {error.what}")
        except CannotWriteError:
            raise
        except Exception as error:  # a figure that fails must not cost the reader the report
            figures.append(about | {"failed": describe(error)})
    return figures, missing


def _title(name: str) -> str:
    """The title of a figure's section."""
    return read_constant("figures", name, "TITLE") or name.replace("_", " ").capitalize()


def _figure(name: str, plot: style.Plot) -> dict[str, Any]:
    """The variables of one figure that was drawn: its caption and its first rows."""
    columns = [column for column in plot.data.columns if column not in HIDDEN]
    table = [[_text(value) for value in row] for row in plot.data[columns].head(SHOWN_ROWS).itertuples(index=False)]
    return {
        "caption": registry.caption(registry.get_plugin("figures", name)),
        "replication": plot.replication,
        "columns": columns,
        "table": table,
        "rows": len(plot.data),
        "whole": name in ACROSS,
    }


def _text(value: Any) -> str:
    """A value of a data table as text."""
    if isinstance(value, tuple):
        return "; ".join(value)
    if value is None:
        return numbers.NONE
    if not isinstance(value, float):
        return str(value)
    return numbers.NONE if math.isnan(value) else f"{value:.5g}".replace("-", numbers.MINUS).replace("inf", "∞")


def _invocation(one: dict[str, Any]) -> dict[str, Any]:
    """One invocation of `sweep run`; missing keys are dashes."""
    machine = one["machine"] if isinstance(one.get("machine"), dict) else {}
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
    """Version, commit if the version does not contain it, and whether there were uncommitted changes."""
    version = str(one.get("code_version") or "")
    commit = str(one.get("commit") or "")[:10]
    named = commit and commit[:7] in version
    texts = [version, "" if named else commit, "with uncommitted changes" if one.get("dirty") else ""]
    return " ".join(text for text in texts if text).replace(".dirty with", " with")
