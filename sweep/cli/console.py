"""What the verbs share: data to stdout, talk to stderr, known mistakes as one clear message, exit codes."""

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

EXIT_FAILED, EXIT_WRONG, EXIT_FAULT, EXIT_INTERRUPTED = 1, 2, 3, 130
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
FILE = click.argument("file", type=click.Path(path_type=Path))
RUN = click.argument("run", type=click.Path(path_type=Path))
OVERRIDES = click.argument("overrides", nargs=-1)


class ErrorHandlingGroup(click.Group):
    """Known mistakes as one clear message, unknown ones as our fault."""

    def invoke(self, context: click.Context) -> Any:
        """Run a verb; what goes wrong ends in an exit code."""
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt:
            echo_err("interrupted: everything that was done is kept; the same command continues")
            sys.exit(EXIT_INTERRUPTED)
        except UserError as error:
            echo_err(f"{error}" + (f"\n  hint: {error.hint}" if error.hint else ""))
            sys.exit(EXIT_WRONG)
        except Exception:
            echo_err(traceback.format_exc().rstrip())
            echo_err("this is a fault of merge-sweep, not yours: please report it with the lines above")
            sys.exit(EXIT_FAULT)


def echo_err(line: str) -> None:
    """A line for people."""
    click.echo(line, err=True)


def emit(content: Any, lines: list[str], *, as_json: bool) -> None:
    """The content as JSON, or the lines."""
    click.echo(json.dumps(null_non_finite(content), indent=1, default=str) if as_json else "\n".join(lines))


def load_run_sweep(run: Path) -> Sweep:
    """The sweep of a run folder, as it was last carried out, wherever the folder lies now."""
    from sweep.config.loader import load
    from sweep.storage.run_folder import RunFolder

    whole = absolute(run)
    RunFolder(whole).run_info()
    where = [f"execution.storage={json.dumps(str(whole.parent))}", f"name={json.dumps(whole.name)}"]
    return load(run / "sweep.yaml", where, accept_renamed=True)


def absolute(run: Path) -> Path:
    """Where a run folder lies, without `..`, so that its name is its last part."""
    return Path(os.path.abspath(run))  # noqa: PTH100 - resolve() would follow links, which may have names of their own


def shell_quote(file: Path, overrides: tuple[str, ...]) -> str:
    """The file and overrides as a shell takes them."""
    return shlex.join([str(file), *overrides])
