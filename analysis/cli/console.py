"""How the verbs tell what they are at."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

PATIENCE = 2.0
"""Seconds without a word to a file or pipe; a terminal sees each step."""


def teller() -> Callable[[str], None]:
    """A progress line on stderr: rewritten on a terminal, else a plain line every two seconds."""
    last = [time.monotonic()]

    def tell(step: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{step} …", nl=False, err=True)
        elif time.monotonic() - last[0] >= PATIENCE:
            click.echo(f"{step} …", err=True)
            last[0] = time.monotonic()

    return tell


def clear() -> None:
    """Wipes the progress line off a terminal."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
