"""Progress lines of the verbs, and their errors in one message each, with exit codes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from sweep.core.command_group import ErrorHandlingGroup
from sweep.core.errors import UserError
from sweep.core.text import format_count

if TYPE_CHECKING:
    from analysis.rows.run import Run

INTERVAL = 2.0
"""Least seconds between progress lines in a file or pipe; a terminal shows each step."""


class AnalysisGroup(ErrorHandlingGroup):
    """The verbs of `analysis`."""

    prefix = "error: "
    after_stop = ": no file was left incomplete"

    def message(self, error: UserError) -> str:
        """The error and its hint, which the text of some errors holds already."""
        hint = f"hint: {error.hint}"
        return f"{error}\n{hint}" if error.hint and hint not in str(error) else str(error)

    def clear(self) -> None:
        """Clear the progress line."""
        clear()


def report_failures(failed: Sequence[str]) -> None:
    """Print what failed, if anything did; the other parts were made."""
    for one in failed:
        click.echo(f"failed: {one}", err=True)
    if failed:
        click.echo(f"{format_count(len(failed), 'part')} failed; the others are complete", err=True)


def report_notes(run: Run) -> None:
    """Print what was read once, renamed or evaluated on other grids where several runs were read together."""
    if run.several:
        for note in run.warnings:
            click.echo(f"note: {note}", err=True)


def progress_line() -> Callable[[str], None]:
    """A function that shows a step on stderr: one rewritten line on a terminal, else a line every two seconds."""
    last = [time.monotonic()]

    def show(step: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{step} …", nl=False, err=True)
        elif time.monotonic() - last[0] >= INTERVAL:
            click.echo(f"{step} …", err=True)
            last[0] = time.monotonic()

    return show


def clear() -> None:
    """Clear the progress line of a terminal."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
