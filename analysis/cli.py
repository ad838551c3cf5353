"""The verbs of `analysis`: rows in, numbers and pictures out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from analysis.errors import AnalysisError

PATIENCE = 2.0
"""Seconds without a word to a file or pipe; a terminal sees each step."""


class _Verbs(click.Group):
    """Mistakes that a user can mend end in one clear message and exit code 2, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the verb."""
        try:
            return super().invoke(ctx)
        except AnalysisError as error:
            click.echo(f"error: {error}", err=True)
        except OSError as error:
            place = error.filename or "file"
            click.echo(f"error: {place}: {error.strerror or error}\nhint: is the folder there and writable?", err=True)
        sys.exit(2)


def _teller() -> tuple[Callable[[str], None], Callable[[], None]]:
    """A progress line on stderr, and what clears it: rewritten on a terminal, else a plain line every two seconds."""
    terminal, last = sys.stderr.isatty(), [time.monotonic()]

    def tell(step: str) -> None:
        if terminal:
            click.echo(f"\r\x1b[K{step} …", nl=False, err=True)
        elif time.monotonic() - last[0] >= PATIENCE:
            click.echo(f"{step} …", err=True)
            last[0] = time.monotonic()

    return tell, lambda: click.echo("\r\x1b[K", nl=False, err=True) if terminal else None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Statistics, figures and one report from the rows of a run folder.

    Example: analysis report runs/digits
    """


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path), help="Where to write; RUN/report.html by default.")
def report(run: Path, output: Path | None) -> None:
    """Write one self-contained HTML page about RUN, a run folder.

    The page opens offline: figures, tables and data are inside. Its path is printed.

    Example: analysis report runs/digits
    """
    tell, clear = _teller()
    tell(f"reading {run}")
    from analysis.load import load

    loaded = load(run)
    from analysis.report import write

    path = output or run / "report.html"
    write(loaded, path, tell)
    clear()
    click.echo(path)
    click.echo(f"open it in a browser: {path.resolve().as_uri()}", err=True)


@main.command()
@click.argument("name")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Path(path_type=Path), help="A .svg, .pdf, .png or .csv; NAME.svg by default.")
def figure(name: str, run: Path, output: Path | None) -> None:
    """Draw the figure NAME of RUN, or write its data; `analysis ls` lists figures.

    Example: analysis figure spaces runs/digits -o spaces.pdf
    """
    tell, clear = _teller()
    tell(f"drawing {name}")
    from analysis import catalogue

    catalogue.find("figures", name)
    from analysis.draw import draw, save
    from analysis.load import load

    path = output or Path(f"{name}.svg")
    save(draw(name, load(run)), name, path)
    clear()
    click.echo(path)
    if path.suffix.lower() != ".csv":
        click.echo(f"its data: analysis figure {name} {run} -o {path.with_suffix('.csv')}", err=True)


@main.command("ls")
def list_names() -> None:
    """List the figures and statistics, each with its first sentence.

    Example: analysis ls
    """
    from analysis import catalogue

    for kind in catalogue.KINDS:
        click.echo(kind)
        for name in catalogue.names(kind):
            click.echo(f"  {name:<20}{catalogue.caption(catalogue.find(kind, name))[0]}")
    click.echo("draw one: analysis figure NAME runs/NAME -o NAME.pdf", err=True)


if __name__ == "__main__":
    main(prog_name="analysis")
