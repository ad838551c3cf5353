"""The verbs of `analysis`: statistics, figures and reports from the rows of a run folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from analysis.cli.console import AnalysisGroup, clear, progress_line, report_failures, report_notes
from analysis.core.errors import AnalysisError
from analysis.core.files import write_file
from sweep.core.command_group import EXIT_FAILED
from sweep.core.paths import expand, expand_home

several_runs = click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=expand_home)


def _listed(runs: Sequence[Path]) -> str:
    """The folders with spaces between them, as on the command line."""
    return " ".join(map(str, runs))


def _parse_populations(populations: str) -> int | None:
    """The number of populations to draw; None for `all`."""
    if populations == "all":
        return None
    if not populations.isdecimal() or populations == "0":
        raise AnalysisError(
            "--populations", f"expected a number of populations, got `{populations}`", "1 or more, or `all`"
        )
    return int(populations)


@click.group(cls=AnalysisGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Statistics, figures and one report from the rows of a run folder.

    Example: analysis report runs/digits
    """


@main.command()
@several_runs
@click.option(
    "-o",
    "output",
    type=expand_home,
    metavar="PATH",
    help="Where to write; RUN/report.html by default, of several runs report.html.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md", "pdf"]),
    help="By default from the ending of the file, else html.",
)
@click.option("--populations", default="6", show_default=True, help="Populations in the figures: a number, or `all`.")
def report(runs: tuple[Path, ...], output: Path | None, form: str | None, populations: str) -> None:
    """Write a report about RUN, a run folder or several of them together, and print its path.

    html is one page that works offline: it contains figures, tables and data. md has its figures and their rows as
    files beside it. pdf is the page, printed by a Chromium or Chrome on PATH. Claims and tables cover all populations.

    \b
    Example: analysis report runs/digits
    Example: analysis report runs/digits --format md -o paper/digits.md
    Example: analysis report runs/cnn runs/vit -o both.html
    """
    most = _parse_populations(populations)
    progress = progress_line()
    progress(f"reading {_listed(runs)}")
    from analysis.rows.runs import load_runs

    loaded = load_runs(runs, judged=True)
    from analysis.report.page import FORMS, write

    ending = output.suffix[1:].lower() if output else ""
    form = form or (ending if ending in FORMS else FORMS[0])
    path = output or (runs[0] if len(runs) == 1 else Path()) / f"report.{form}"
    failed = write(loaded, path, progress, form, most)
    clear()
    click.echo(path)
    report_failures(failed)
    click.echo(f"open it in a browser: {expand(path).as_uri()}", err=True)


@main.command()
@click.argument("name")
@several_runs
@click.option("-o", "output", type=expand_home, metavar="PATH", help="A .svg, .pdf, .png or .csv; NAME.svg by default.")
@click.option(
    "--population", "populations", multiple=True, help="Draw only this population; repeatable. All by default."
)
def figure(name: str, runs: tuple[Path, ...], output: Path | None, populations: tuple[str, ...]) -> None:
    """Draw the figure NAME of RUN, or of several runs together, or write its data; `analysis ls` lists figures.

    \b
    Example: analysis figure spaces runs/digits -o spaces.pdf
    Example: analysis figure kinship runs/digits --population cnn -o kinship.svg
    """
    progress = progress_line()
    progress(f"drawing {name}")
    from analysis.core import registry

    registry.get_plugin("figures", name)
    from analysis.display.draw import draw, save
    from analysis.rows.runs import load_runs

    path = output or Path(f"{name}.svg")
    loaded = load_runs(runs)
    save(draw(name, loaded.only(populations) if populations else loaded), name, path)
    clear()
    click.echo(path)
    report_notes(loaded)
    if path.suffix.lower() != ".csv":
        click.echo(f"its data: analysis figure {name} {_listed(runs)} -o {path.with_suffix('.csv')}", err=True)


@main.command()
@click.argument("name")
@click.argument("run", required=False, type=expand_home)
@click.argument("settings", nargs=-1, metavar="[RUN]... [KEY=VALUE]...")
@click.option("--json", "form", flag_value="json", help="Records as JSON; NaN and infinite numbers are null.")
@click.option("--csv", "form", flag_value="csv", help="Every column as comma-separated values.")
@click.option("--tex", "form", flag_value="tex", help="A booktabs table.")
@click.option("-o", "output", type=expand_home, metavar="PATH", help="Write into this .txt, .json, .csv or .tex file.")
def stats(name: str, run: Path | None, settings: tuple[str, ...], form: str | None, output: Path | None) -> None:
    """Compute the statistic NAME on RUN; `analysis ls` lists statistics. Without RUN, describe it and its settings.

    Settings are written KEY=VALUE, lists with commas. Each p-value is beside its 95% interval; n counts the units of
    replication; notes list the rows that were left out. Rows of several runs are read together, with a column `run`.

    \b
    Example: analysis stats paired_difference runs/digits b=mean_member margin=0.005
    Example: analysis stats pool_means runs/digits metric=brier by=population,label --csv -o brier.csv
    """
    from analysis.cli.settings import describe_statistic, parse_settings, run_statistic, split_words

    if run is None:
        click.echo("\n".join(describe_statistic(name)))
        return
    more, words = split_words(settings)
    chosen = parse_settings(name, words)
    progress = progress_line()
    progress(f"computing {name}")
    from analysis.display.tables import form_of, render
    from analysis.rows.runs import load_runs

    form = form or form_of(output)
    loaded = load_runs([run, *more])
    found = render(run_statistic(loaded, name, chosen), form)
    clear()
    report_notes(loaded)
    if output is None:
        click.echo(found, nl=False)
    else:
        write_file(output, found)
        click.echo(output)


@main.command()
@click.argument("a", type=expand_home)
@click.argument("b", type=expand_home)
@click.option("--assert-equal", "strict", is_flag=True, help="Exit with 1 if rows, statuses or numbers differ.")
@click.option(
    "--tolerance", default=0.0, show_default=True, help="Largest difference of two numbers that counts as equal."
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def compare(a: Path, b: Path, strict: bool, tolerance: float, as_json: bool) -> None:
    """Compare the rows of the run folders A and B, by candidate and split.

    \b
    Example: analysis compare runs/digits runs/again
    Example: analysis compare runs/digits runs/again --assert-equal --tolerance 1e-6
    """
    progress = progress_line()
    progress("comparing")
    from analysis.display import tables
    from analysis.report import compare as comparison
    from analysis.rows.run import load

    found = comparison.compare(load(a), load(b), tolerance)
    clear()
    click.echo(tables.as_json(found) if as_json else "\n".join([*comparison.lines(found), ""]), nl=False)
    if strict and not found["equal"]:
        click.echo("error: the runs differ", err=True)
        sys.exit(1)


@main.command()
@click.argument("run", type=expand_home)
def cite(run: Path) -> None:
    """Print BibTeX for what RUN used: methods, metrics, networks, data, statistics and this system.

    Example: analysis cite runs/digits > digits.bib
    """
    progress = progress_line()
    progress(f"reading {run}")
    from analysis.report.citations import cite as gather
    from analysis.rows.run import load

    found, unknown = gather(load(run))
    clear()
    click.echo(found, nl=False)
    if unknown:
        click.echo(f"no reference is known for {', '.join(unknown)}: cite it yourself", err=True)


@main.command()
@several_runs
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.option(
    "--forest", type=expand_home, metavar="PATH", help="Draw the cells into this .svg, .pdf, .png or .csv file."
)
def claims(runs: tuple[Path, ...], as_json: bool, forest: Path | None) -> None:
    """Evaluate every claim of `analysis/claims` on RUN: its verdict, and the number of pools that would decide it.

    The pools of several runs, which must have one margin, are taken together.

    \b
    Example: analysis claims runs/digits
    Example: analysis claims runs/digits --forest forest.pdf
    Example: analysis claims runs/cnn runs/vit
    """
    progress = progress_line()
    progress(f"reading {_listed(runs)}")
    from analysis.display import tables
    from analysis.report.claims import answers, lines, notes, record_looks, table
    from analysis.rows.runs import load_runs

    loaded = load_runs(runs, judged=True)
    found = answers(loaded)
    warning = record_looks(loaded, found)
    clear()
    report_notes(loaded)
    click.echo(tables.as_json(table(found)) if as_json else "\n".join([*lines(found), ""]), nl=False)
    for note in [*notes(loaded), *([warning] if warning else [])]:
        click.echo(f"warning: {note}", err=True)
    if forest is not None:
        from analysis.report.forest import save_forest

        save_forest(found, forest)
        click.echo(forest, err=True)
    failed = [f"claim {one.name}: {one.missing}" for one in found if one.failed]
    report_failures(failed)
    if len(failed) == len(found):
        sys.exit(EXIT_FAILED)


@main.command("ls")
def list_names() -> None:
    """List claims, figures and statistics, each with its first sentence.

    Example: analysis ls
    """
    from analysis.core import registry

    for kind in registry.KINDS:
        click.echo(kind)
        for name in registry.list_plugins(kind):
            click.echo(f"  {name:<30}{registry.caption(registry.get_plugin(kind, name))[0]}")
    click.echo("draw one: analysis figure NAME runs/NAME -o NAME.pdf", err=True)
