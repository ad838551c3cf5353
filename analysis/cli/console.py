"""Progress lines of the verbs, and their errors in one message each, with exit codes."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import click

from sweep.core.causes import explain
from sweep.core.output import allow_any_name, close_output, is_output_closed
from sweep.core.paths import working_folder

INTERVAL = 2.0
"""Least seconds between progress lines in a file or pipe; a terminal shows each step."""

EXIT_FAILED = 1
EXIT_WRONG = 2
EXIT_FAULT = 3
EXIT_INTERRUPTED = 130


class ErrorHandlingGroup(click.Group):
    """Shows an error that a user can fix as one message, and any other as a bug of merge-sweep."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; every error becomes an exit code."""
        allow_any_name()
        try:
            working_folder()  # without one even the import of torch ends this process
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt:
            clear()
            click.echo("interrupted: no file was left incomplete", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and is_output_closed():
                sys.exit(close_output())
            clear()
            sys.exit(_report(error))


def _report(error: Exception) -> int:
    """Print an error with its hint, or a bug with its traceback; returns the exit code."""
    known = explain(error)
    if known is None:
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
        click.echo("error: this is a bug of merge-sweep: please report it with the lines above", err=True)
        return EXIT_FAULT
    hint = f"\nhint: {known.hint}" if known.hint and f"hint: {known.hint}" not in str(known) else ""
    click.echo(f"error: {known}{hint}", err=True)
    return EXIT_WRONG


def report_failures(failed: Sequence[str]) -> None:
    """Print what failed, if anything did; the other parts were made."""
    for one in failed:
        click.echo(f"failed: {one}", err=True)
    if failed:
        click.echo(f"{len(failed)} part{'s' * (len(failed) > 1)} failed; the others are complete", err=True)


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
