"""The verbs. Data goes to stdout, talk to stderr.

Exit codes: 0 done, 1 some candidates failed, 2 wrong use or configuration, 3 our fault, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sweep.cli.console import (
    EXIT_FAILED,
    FILE,
    JSON,
    OVERRIDES,
    RUN,
    ErrorHandlingGroup,
    absolute,
    echo_err,
    emit,
    load_run_sweep,
    shell_quote,
)
from sweep.cli.tools import COMMANDS


@click.group(cls=ErrorHandlingGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="merge-sweep", message="%(version)s")
def main() -> None:
    """Sweeps over merges of trained models.

    One YAML file says which populations are trained and how their members are merged. The same command continues an
    interrupted run, and an edited file adds only what is new.

    \b
    sweep check configs/digits.yaml     is the file right?
    sweep plan configs/digits.yaml      what would be done, and how long would it take?
    sweep run configs/digits.yaml       do it
    """


@main.command()
@FILE
@OVERRIDES
def check(file: Path, overrides: tuple[str, ...]) -> None:
    """Is the file right? Every mistake with its place, all at once.

    \b
    sweep check configs/digits.yaml
    sweep check configs/digits.yaml dataset.digits.size=8
    """
    from sweep.config.loader import load
    from sweep.status.preflight import check_networks, datasets

    sweep = load(file, overrides)
    check_networks(sweep, datasets(sweep))
    echo_err(f"{file}: valid\nnext: sweep plan {shell_quote(file, overrides)}")


@main.command()
@FILE
@OVERRIDES
@JSON
def plan(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """What would be done: members, candidates, and about how long.

    \b
    sweep plan configs/digits.yaml
    sweep plan configs/digits.yaml subsets.per_size=100 --json
    """
    from sweep.cli.text import plan_text
    from sweep.config.loader import load
    from sweep.status.dataset_info import missing_datasets
    from sweep.status.footprint import footprint
    from sweep.status.state import load_state
    from sweep.status.summary import plan_summary

    sweep = load(file, overrides)
    without = missing_datasets(sweep)
    state = load_state(sweep, without)
    summary = plan_summary(state) | footprint(state, without)
    emit(summary, plan_text(summary), as_json=as_json)
    echo_err(f"next: sweep run {shell_quote(file, overrides)}")


@main.command()
@FILE
@OVERRIDES
@click.option("--retry", is_flag=True, help="Do failed members and candidates anew.")
def run(file: Path, overrides: tuple[str, ...], retry: bool) -> None:
    """Do what is not done yet. The same command again continues.

    \b
    sweep run configs/digits.yaml
    sweep run configs/digits.yaml train.epochs=2 name=quick
    sweep run configs/digits.yaml --retry
    """
    import pyarrow as pa

    from sweep.cli.text import relative_path, run_text
    from sweep.config.loader import load
    from sweep.execution.driver import run as carry_out
    from sweep.execution.progress import Progress

    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what it once had, and a run goes on for long
    sweep = load(file, overrides)
    command = f"sweep run {shell_quote(file, overrides)}"
    with Progress(sweep.folder / "log.txt") as progress:
        state = carry_out(sweep, progress, command=command, overrides=overrides, retry=retry)
    echo_err("\n".join(run_text(state)))
    click.echo(relative_path(sweep.folder))
    if state.failed or state.failed_members:
        sys.exit(EXIT_FAILED)


@main.command()
@RUN
@JSON
def status(run: Path, as_json: bool) -> None:
    """What is done, what failed, what is left.

    \b
    sweep status runs/digits
    sweep status runs/digits --json
    """
    from sweep.cli.text import plan_text
    from sweep.status.summary import plan_summary, run_summary

    summary = run_summary(absolute(run))
    if summary is None:
        from sweep.status.state import load_state

        summary = plan_summary(load_state(load_run_sweep(run)))
    emit(summary, plan_text(summary), as_json=as_json)


@main.command()
@RUN
@JSON
def failures(run: Path, as_json: bool) -> None:
    """Failed members and candidates by cause.

    \b
    sweep failures runs/digits
    sweep failures runs/digits --json
    """
    from sweep.cli.text import failure_text
    from sweep.status.summary import failure_causes
    from sweep.storage.run_folder import RunFolder

    folder = RunFolder(run.absolute())
    folder.run_info()
    causes = failure_causes(folder)
    emit(causes, failure_text(causes), as_json=as_json)
    if causes:
        echo_err(f"next: sweep one {run} CANDIDATE, or sweep run FILE --retry")


@main.command()
@RUN
@click.argument("id")
@JSON
def one(run: Path, id: str, as_json: bool) -> None:
    """Evaluate one candidate here, without Ray, and compare it with its row. ID may be the first digits of an id.

    \b
    sweep one runs/digits 3f2a
    sweep one runs/digits 3f2a --json
    """
    from sweep.cli.text import row_text
    from sweep.execution.local import evaluate_one

    rows = evaluate_one(load_run_sweep(run), id)
    emit(rows, row_text(rows), as_json=as_json)


@main.command()
@click.argument("what", required=False)
@JSON
def ls(what: str | None, as_json: bool) -> None:
    """What can be chosen: methods, scalings, datasets, architectures, …; or the runs.

    \b
    sweep ls
    sweep ls methods
    sweep ls runs
    """
    from sweep.cli.listing import listing_of

    emit(*listing_of(what), as_json=as_json)


@main.command()
@click.argument("name")
@JSON
def show(name: str, as_json: bool) -> None:
    """One of them in full: idea, needs, settings with bounds, how to write it.

    \b
    sweep show interpolation
    sweep show magnify
    sweep show scalings/none
    """
    from sweep.cli.listing import descriptions_of

    emit(*descriptions_of(name), as_json=as_json)


for command in COMMANDS:
    main.add_command(command)
