"""The verbs of `analysis`: rows in, numbers and pictures out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from analysis.cli.console import clear, teller
from analysis.core.errors import AnalysisError


class _Verbs(click.Group):
    """Mistakes that a user can mend end in one clear message and exit code 2, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the verb."""
        try:
            return super().invoke(ctx)
        except AnalysisError as error:
            clear()
            click.echo(f"error: {error}", err=True)
        except OSError as error:
            clear()
            place = error.filename or "file"
            click.echo(f"error: {place}: {error.strerror or error}\nhint: is the folder there and writable?", err=True)
        sys.exit(2)


def _most(populations: str) -> int | None:
    """How many populations are drawn; None is all."""
    if populations == "all":
        return None
    if not populations.isdecimal() or populations == "0":
        raise AnalysisError("--populations", f"`{populations}` is no number of populations", "1 or more, or `all`")
    return int(populations)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Statistics, figures and one report from the rows of a run folder.

    Example: analysis report runs/digits
    """


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path), help="Where to write; RUN/report.html by default.")
@click.option(
    "--format", "form", type=click.Choice(["html", "md", "pdf"]), help="By default as the file ends, or html."
)
@click.option("--populations", default="6", show_default=True, help="How many the figures show: a number, or `all`.")
def report(run: Path, output: Path | None, form: str | None, populations: str) -> None:
    """Write a report about RUN, a run folder; its path is printed.

    html is one page that opens offline: figures, tables and data are inside. md has its figures and their rows as files
    beside it. pdf is the page as a Chromium or Chrome on PATH prints it. Claims and tables are about every population.

    \b
    Example: analysis report runs/digits
    Example: analysis report runs/digits --format md -o paper/digits.md
    """
    most = _most(populations)
    tell = teller()
    tell(f"reading {run}")
    from analysis.rows.run import load

    loaded = load(run)
    from analysis.report.page import FORMS, write

    ending = output.suffix[1:].lower() if output else ""
    form = form or (ending if ending in FORMS else FORMS[0])
    path = output or run / f"report.{form}"
    write(loaded, path, tell, form, most)
    clear()
    click.echo(path)
    click.echo(f"open it in a browser: {path.resolve().as_uri()}", err=True)


@main.command()
@click.argument("name")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path), help="A .svg, .pdf, .png or .csv; NAME.svg by default.")
@click.option("--population", "populations", multiple=True, help="Only this one; may be given again. All by default.")
def figure(name: str, run: Path, output: Path | None, populations: tuple[str, ...]) -> None:
    """Draw the figure NAME of RUN, or write its data; `analysis ls` lists figures.

    \b
    Example: analysis figure spaces runs/digits -o spaces.pdf
    Example: analysis figure kinship runs/digits --population cnn -o kinship.svg
    """
    tell = teller()
    tell(f"drawing {name}")
    from analysis.core import registry as catalogue

    catalogue.get_plugin("figures", name)
    from analysis.display.draw import draw, save
    from analysis.rows.run import load

    path = output or Path(f"{name}.svg")
    loaded = load(run)
    save(draw(name, loaded.only(populations) if populations else loaded), name, path)
    clear()
    click.echo(path)
    if path.suffix.lower() != ".csv":
        click.echo(f"its data: analysis figure {name} {run} -o {path.with_suffix('.csv')}", err=True)


@main.command()
@click.argument("name")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--json", "form", flag_value="json", help="Records; a number without a value (NaN, infinite) is null.")
@click.option("--csv", "form", flag_value="csv", help="Every column as comma-separated values.")
@click.option("--tex", "form", flag_value="tex", help="A booktabs table.")
@click.option("-o", "output", type=click.Path(path_type=Path), help="A .txt, .json, .csv or .tex to write it into.")
def stats(name: str, run: Path | None, settings: tuple[str, ...], form: str | None, output: Path | None) -> None:
    """Ask the statistic NAME of RUN; `analysis ls` lists them. Without RUN: what it takes and what it gives.

    Settings are written KEY=VALUE, lists with commas. Each p stands beside its 95% interval; n counts the units of
    replication; notes tell what was left out.

    \b
    Example: analysis stats paired_difference runs/digits b=mean_member margin=0.005
    Example: analysis stats pool_means runs/digits metric=brier by=population,label --csv -o brier.csv
    """
    from analysis.cli.settings import describe_statistic, parse_settings, run_statistic

    if run is None:
        click.echo("\n".join(describe_statistic(name)))
        return
    chosen = parse_settings(name, settings)
    tell = teller()
    tell(f"asking {name}")
    from analysis.display.tables import form_of, render
    from analysis.rows.run import load

    form = form or form_of(output)
    found = render(run_statistic(load(run), name, chosen), form)
    clear()
    if output is None:
        click.echo(found, nl=False)
    else:
        output.write_text(found, encoding="utf-8")
        click.echo(output)


@main.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--assert-equal", "strict", is_flag=True, help="End with 1 where rows, statuses or numbers differ.")
@click.option("--tolerance", default=0.0, show_default=True, help="Largest difference of a number that counts as none.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def compare(a: Path, b: Path, strict: bool, tolerance: float, as_json: bool) -> None:
    """Hold the rows of the run folders A and B side by side, by candidate and split.

    \b
    Example: analysis compare runs/digits runs/again
    Example: analysis compare runs/digits runs/again --assert-equal --tolerance 1e-6
    """
    tell = teller()
    tell("comparing")
    from analysis.display.tables import as_json as told
    from analysis.report.compare import compare as held
    from analysis.report.compare import lines
    from analysis.rows.run import load

    found = held(load(a), load(b), tolerance)
    clear()
    click.echo(told(found) if as_json else "\n".join([*lines(found), ""]), nl=False)
    if strict and not found["equal"]:
        click.echo("error: the runs differ", err=True)
        sys.exit(1)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
def cite(run: Path) -> None:
    """Print BibTeX of what the rows of RUN rest on: methods, metrics, networks, data, statistics and this system.

    Example: analysis cite runs/digits > digits.bib
    """
    tell = teller()
    tell(f"reading {run}")
    from analysis.report.citations import cite as gather
    from analysis.rows.run import load

    found, unknown = gather(load(run))
    clear()
    click.echo(found, nl=False)
    if unknown:
        click.echo(f"no work is known for {', '.join(unknown)}: cite it yourself", err=True)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def claims(run: Path, as_json: bool) -> None:
    """Hold every claim of the folder `analysis/claims` against RUN: its verdict, and what would decide it.

    Example: analysis claims runs/digits
    """
    tell = teller()
    tell(f"reading {run}")
    from analysis.display.tables import as_json as told
    from analysis.report.claims import answers, lines, table
    from analysis.rows.run import load

    found = answers(load(run))
    clear()
    click.echo(told(table(found)) if as_json else "\n".join([*lines(found), ""]), nl=False)


@main.command("ls")
def list_names() -> None:
    """List the figures and statistics, each with its first sentence.

    Example: analysis ls
    """
    from analysis.core import registry as catalogue

    for kind in catalogue.KINDS:
        click.echo(kind)
        for name in catalogue.list_plugins(kind):
            click.echo(f"  {name:<30}{catalogue.caption(catalogue.get_plugin(kind, name))[0]}")
    click.echo("draw one: analysis figure NAME runs/NAME -o NAME.pdf", err=True)
