"""Shared by the verbs: data on stdout, messages on stderr, user errors in one line with a hint, exit codes."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.core.command_group import ErrorHandlingGroup
from sweep.core.masking import mask_known, mask_secrets
from sweep.core.paths import expand, expand_home
from sweep.core.text import null_non_finite

if TYPE_CHECKING:
    from sweep.config.spec import Sweep

JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
FILE = click.argument("file", type=expand_home)
RUN = click.argument("run", type=expand_home)
OVERRIDES = click.argument("overrides", nargs=-1)


class SweepGroup(ErrorHandlingGroup):
    """The verbs of `sweep`."""

    after_stop = ": all finished work is kept; the same command continues"


def echo_err(line: str) -> None:
    """Print a line on stderr."""
    click.echo(mask_secrets(line), err=True)


def emit(content: Any, lines: list[str], *, as_json: bool) -> None:
    """Print the content as JSON, or the lines, on stdout, without secrets, which earlier versions may have stored."""
    text = json.dumps(null_non_finite(content), indent=1, default=str) if as_json else "\n".join(lines)
    click.echo(mask_known(text))


def load_run_sweep(run: Path) -> Sweep:
    """The sweep of a run folder as of its last run, with the place where the folder is now."""
    from sweep.config.loader import load
    from sweep.config.spec import metric_name
    from sweep.storage.run_folder import RunFolder

    path = absolute_folder(run)
    info = RunFolder(path).run_info()
    sweep = load(path / "sweep.yaml", accept_renamed=True, accept_missing=True)
    execution = sweep.execution.model_copy(update={"storage": path.parent})
    settings = sweep.settings.model_copy(update={"execution": execution, "name": path.name})
    # `sweep.yaml` has the names of metrics as of its version, run.json what they measure.
    metrics = tuple(metric_name(identity) for identity in info.get("metrics", sweep.metric_ids))
    return replace(
        sweep, settings=settings, metrics=metrics
    )  # not as overrides: a folder may have names that no sweep has


def absolute_folder(run: Path) -> Path:
    """The absolute path of a run folder without `..`, so that its name is the last part."""
    return Path(os.path.normpath(expand(run)))  # resolve() would follow links, which may have names of their own


def shell_quote(file: Path, overrides: tuple[str, ...]) -> str:
    """The file and overrides, quoted for a shell."""
    return shlex.join([str(file), *overrides])
