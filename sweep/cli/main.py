"""The verbs. Data goes to stdout, messages to stderr.

Exit codes: 0 done, 1 some candidates failed, 2 wrong usage or configuration, 3 a bug,
75 and 143 stopped by SIGTERM with and without `--requeue`, 130 interrupted or stopped by `sweep stop`,
141 the reader of stdout has ended (`sweep ls | head -1`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sweep.cli.console import (
    FILE,
    JSON,
    OVERRIDES,
    RUN,
    SweepGroup,
    absolute_folder,
    echo_err,
    emit,
    load_run_sweep,
    shell_quote,
)
from sweep.cli.jobs import ADDRESS, status_of_job
from sweep.cli.jobs import COMMANDS as CLUSTER_COMMANDS
from sweep.cli.tools import COMMANDS
from sweep.core.command_group import EXIT_FAILED
from sweep.core.paths import expand
from sweep.core.termination import EXIT_REQUEUE, EXIT_TERMINATED, raised_termination


@click.group(cls=SweepGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="merge-sweep", message="%(version)s")
def main() -> None:
    """Sweeps over merges of trained models.

    One YAML file defines which populations of models are trained and how their members are merged. The same command
    continues an interrupted run. After an edit of the file, it computes only what is new.

    \b
    sweep check configs/digits.yaml     validate the file
    sweep plan configs/digits.yaml      count what a run would do, and estimate its time
    sweep run configs/digits.yaml       train, merge and evaluate
    """


@main.command()
@FILE
@OVERRIDES
def check(file: Path, overrides: tuple[str, ...]) -> None:
    """Validate a configuration. All errors are listed, each with its place in the file.

    \b
    sweep check configs/digits.yaml
    sweep check configs/digits.yaml dataset.digits.size=8
    """
    from sweep.config.loader import load
    from sweep.status.checkpoint_checks import checkpoint_notes
    from sweep.status.preflight import check_networks, check_pools, datasets

    sweep = load(file, overrides)
    loaded = datasets(sweep)
    check_networks(sweep, loaded)
    check_pools(sweep)
    for note in checkpoint_notes(sweep, loaded):
        echo_err(note)
    echo_err(f"{file}: valid\nnext: sweep plan {shell_quote(file, overrides)}")


@main.command()
@FILE
@OVERRIDES
@JSON
def plan(file: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Count the members to train and the candidates to evaluate, and estimate the time.

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
    absent = missing_datasets(sweep)
    state = load_state(sweep, absent)
    summary = plan_summary(state) | footprint(state, absent)
    emit(summary, plan_text(summary), as_json=as_json)
    echo_err(f"next: sweep run {shell_quote(file, overrides)}")


@main.command()
@FILE
@OVERRIDES
@click.option("--retry", is_flag=True, help="Repeat failed members and candidates.")
@click.option(
    "--requeue", is_flag=True, help="Exit with 75 instead of 143 after SIGTERM, for a job that requeues itself."
)
def run(file: Path, overrides: tuple[str, ...], retry: bool, requeue: bool) -> None:
    """Train the missing members and evaluate the missing candidates. Run it again to continue.

    SIGTERM (a spot instance, `ray job stop`, Slurm) stops it within seconds: trainings are saved, running blocks have
    10 s, and the exit code is 143. A second SIGTERM ends it at once.

    \b
    sweep run configs/digits.yaml
    sweep run configs/digits.yaml train.epochs=2 name=quick
    sweep run configs/digits.yaml --retry
    """
    with raised_termination(EXIT_REQUEUE if requeue else EXIT_TERMINATED):
        import pyarrow as pa

        from sweep.cli.text import relative_path, run_text
        from sweep.config.loader import load
        from sweep.execution.driver import run as run_sweep
        from sweep.execution.progress import Progress

        pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own pool never frees memory, and runs are long
        sweep = load(file, overrides)
        command = f"sweep run {shell_quote(file, overrides)}"
        with Progress(sweep.folder / "log.txt") as progress:
            state = run_sweep(sweep, progress, command=command, overrides=overrides, retry=retry, requeue=requeue)
    echo_err("\n".join(run_text(state)))
    click.echo(relative_path(sweep.folder))
    if state.failed or state.failed_members:
        sys.exit(EXIT_FAILED)


@main.command()
@RUN
@JSON
@ADDRESS
def status(run: Path, as_json: bool, address: str | None) -> None:
    """Count what is done, what failed, and what is left. With --address, RUN is a job or the name of a sweep there.

    \b
    sweep status runs/digits
    sweep status runs/digits --json
    sweep status digits --address http://127.0.0.1:8265
    """
    if address:
        status_of_job(str(run), address, as_json=as_json)
    from sweep.cli.text import plan_text
    from sweep.status.summary import plan_summary, run_summary

    summary = run_summary(absolute_folder(run))
    if summary is None:
        from sweep.status.state import load_run_state

        summary = plan_summary(load_run_state(load_run_sweep(run)))
    emit(summary, plan_text(summary), as_json=as_json)


@main.command()
@RUN
@JSON
def failures(run: Path, as_json: bool) -> None:
    """List failed members and candidates by cause.

    \b
    sweep failures runs/digits
    sweep failures runs/digits --json
    """
    from sweep.cli.text import failure_text
    from sweep.status.summary import failure_causes
    from sweep.storage.run_folder import RunFolder

    folder = RunFolder(expand(run))
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
    """Evaluate one candidate in this process, without Ray, beside its stored row. ID may be the first digits of an id.

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
@click.option("--long", "-l", "is_long", is_flag=True, help="Every setting, with its values and default.")
@JSON
def ls(what: str | None, is_long: bool, as_json: bool) -> None:
    """List the plug-ins of a kind (methods, scalings, datasets, architectures, …), or the runs in `runs/`.

    \b
    sweep ls
    sweep ls methods
    sweep ls methods --long
    sweep ls runs
    """
    from sweep.cli.listing import listing_of

    emit(*listing_of(what, is_long=is_long), as_json=as_json)


@main.command()
@click.argument("name")
@JSON
def show(name: str, as_json: bool) -> None:
    """Describe a plug-in: its idea, inputs, settings with bounds, and how a configuration names it.

    \b
    sweep show interpolation
    sweep show magnify
    sweep show scalings/none
    """
    from sweep.cli.listing import descriptions_of

    emit(*descriptions_of(name), as_json=as_json)


for command in (*COMMANDS, *CLUSTER_COMMANDS):
    main.add_command(command)
