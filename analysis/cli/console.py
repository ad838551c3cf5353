"""Progress lines of the verbs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

INTERVAL = 2.0
"""Least seconds between progress lines in a file or pipe; a terminal shows each step."""


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
