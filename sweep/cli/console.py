"""Shared by the verbs: data on stdout, messages on stderr, user errors in one line with a hint, exit codes."""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.core.errors import UserError
from sweep.core.text import null_non_finite

if TYPE_CHECKING:
    from sweep.config.spec import Sweep

EXIT_FAILED = 1
EXIT_WRONG = 2
EXIT_FAULT = 3
EXIT_INTERRUPTED = 130
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
FILE = click.argument("file", type=click.Path(path_type=Path))
RUN = click.argument("run", type=click.Path(path_type=Path))
OVERRIDES = click.argument("overrides", nargs=-1)


class ErrorHandlingGroup(click.Group):
    """Shows a user error as one message, and any other exception as a bug of merge-sweep."""

    def invoke(self, context: click.Context) -> Any:
        """Run a verb; every error becomes an exit code."""
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt:
            echo_err("interrupted: all finished work is kept; the same command continues")
            sys.exit(EXIT_INTERRUPTED)
        except UserError as error:
            echo_err(f"{error}" + (f"\n  hint: {error.hint}" if error.hint else ""))
            sys.exit(EXIT_WRONG)
        except Exception:
            echo_err(traceback.format_exc().rstrip())
            echo_err("this is a bug of merge-sweep: please report it with the lines above")
            sys.exit(EXIT_FAULT)


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

    path = absolute(run)
    RunFolder(path).run_info()
    overrides = [f"execution.storage={json.dumps(str(path.parent))}", f"name={json.dumps(path.name)}"]
    return load(run / "sweep.yaml", overrides, accept_renamed=True, accept_missing=True)


def absolute(run: Path) -> Path:
    """The absolute path of a run folder without `..`, so that its name is the last part."""
    return Path(os.path.abspath(run))  # noqa: PTH100 - resolve() would follow links, which may have names of their own


def shell_quote(file: Path, overrides: tuple[str, ...]) -> str:
    """The file and overrides, quoted for a shell."""
    return shlex.join([str(file), *overrides])
