"""Shared by the verbs: data on stdout, messages on stderr, user errors in one line with a hint, exit codes."""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.core.causes import explain
from sweep.core.output import allow_any_name, close_output, is_output_closed
from sweep.core.paths import expand, expand_home, working_folder
from sweep.core.text import null_non_finite

if TYPE_CHECKING:
    from sweep.config.spec import Sweep

EXIT_FAILED = 1
EXIT_WRONG = 2
EXIT_FAULT = 3
EXIT_INTERRUPTED = 130
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
FILE = click.argument("file", type=expand_home)
RUN = click.argument("run", type=expand_home)
OVERRIDES = click.argument("overrides", nargs=-1)


class ErrorHandlingGroup(click.Group):
    """Shows an error that a user can fix as one message, and any other as a bug of merge-sweep."""

    def invoke(self, context: click.Context) -> Any:
        """Run a verb; every error becomes an exit code."""
        allow_any_name()
        try:
            working_folder()  # without one even the import of torch ends this process
            return super().invoke(context)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt:
            echo_err("interrupted: all finished work is kept; the same command continues")
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and is_output_closed():
                sys.exit(close_output())
            sys.exit(_report(error))


def _report(error: Exception) -> int:
    """Print an error with its hint, or a bug with its traceback; returns the exit code."""
    known = explain(error)
    if known is None:
        echo_err("".join(traceback.format_exception(error)).rstrip())
        echo_err("this is a bug of merge-sweep: please report it with the lines above")
        return EXIT_FAULT
    echo_err(f"{known}" + (f"\n  hint: {known.hint}" if known.hint else ""))
    return EXIT_WRONG


def echo_err(line: str) -> None:
    """Print a line on stderr."""
    click.echo(line, err=True)


def emit(content: Any, lines: list[str], *, as_json: bool) -> None:
    """Print the content as JSON, or the lines, on stdout."""
    click.echo(json.dumps(null_non_finite(content), indent=1, default=str) if as_json else "\n".join(lines))


def load_run_sweep(run: Path) -> Sweep:
    """The sweep of a run folder as of its last run, with the place where the folder is now."""
    from sweep.config.loader import load
    from sweep.storage.run_folder import RunFolder

    path = absolute_folder(run)
    RunFolder(path).run_info()
    sweep = load(path / "sweep.yaml", accept_renamed=True, accept_missing=True)
    execution = sweep.execution.model_copy(update={"storage": path.parent})
    settings = sweep.settings.model_copy(update={"execution": execution, "name": path.name})
    return replace(sweep, settings=settings)  # not as overrides: a folder may have names that no sweep has


def absolute_folder(run: Path) -> Path:
    """The absolute path of a run folder without `..`, so that its name is the last part."""
    return Path(os.path.normpath(expand(run)))  # resolve() would follow links, which may have names of their own


def shell_quote(file: Path, overrides: tuple[str, ...]) -> str:
    """The file and overrides, quoted for a shell."""
    return shlex.join([str(file), *overrides])
