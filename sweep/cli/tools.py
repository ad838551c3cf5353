"""The verbs around a run: check and repair it, query it, mirror it to MLflow, fetch data, export models."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sweep.cli.console import JSON, RUN, echo_err, emit, load_run_sweep
from sweep.cli.jobs import ADDRESS, stop_job
from sweep.core.command_group import EXIT_FAILED
from sweep.core.paths import expand, expand_home


@click.command()
@click.argument("run", required=False, type=expand_home)
@click.option("--repair", is_flag=True, help="Move damaged files aside; the next run repeats their work.")
@JSON
def doctor(run: Path | None, repair: bool, as_json: bool) -> None:
    """Check this machine, or the run folder RUN for damage.

    \b
    sweep doctor
    sweep doctor runs/digits
    sweep doctor runs/digits --repair
    """
    from sweep.execution.machine import machine_findings
    from sweep.storage.doctor import folder_findings, repair_run
    from sweep.storage.run_folder import RunFolder

    if repair and not run:
        raise click.UsageError("--repair needs a RUN")
    for line in repair_run(RunFolder(expand(run))) if repair and run else ():
        echo_err(line)
    findings = list(folder_findings(RunFolder(expand(run))) if run else machine_findings(Path("runs")))
    emit([finding._asdict() for finding in findings], [str(finding) for finding in findings], as_json=as_json)
    if not all(finding.good for finding in findings):
        sys.exit(EXIT_FAILED)


@click.command()
@RUN
@JSON
def compact(run: Path, as_json: bool) -> None:
    """Merge the many small files of a run's tables, and remove leftovers of killed writers. It may be killed safely.

    sweep compact runs/digits
    """
    from sweep.storage.compact import compact as compact_tables
    from sweep.storage.run_folder import RunFolder

    tables, left = compact_tables(RunFolder(expand(run)))
    lines = [f"{each.table:12} {each.before:,} files merged into {each.after:,}, {each.rows:,} rows" for each in tables]
    lines += [f"{left:,} leftovers of killed writers removed"] if left else []
    emit({"tables": [each._asdict() for each in tables], "removed": left}, lines, as_json=as_json)


@click.command()
@RUN
@ADDRESS
def stop(run: Path, address: str | None) -> None:
    """Ask the process that works on RUN, on any host, to stop, as Ctrl-C once does.

    Trainings are saved within seconds, also within an epoch, and running blocks are finished. With --address, RUN is a
    job or the name of a sweep there, which gets SIGTERM.

    \b
    sweep stop runs/digits
    sweep stop digits --address http://127.0.0.1:8265
    """
    if address:
        stop_job(str(run), address)
        return
    from sweep.storage.lock import request_stop

    echo_err(f"asked {request_stop(expand(run))} to stop; the same command continues")


@click.command()
@RUN
@click.argument("query")
@JSON
def sql(run: Path, query: str, as_json: bool) -> None:
    """Query a run's tables in SQL. Each table is a read-only view of its name.

    \b
    sweep sql runs/digits "select method, n_members, avg(accuracy) from candidates group by all order by 1, 2"
    sweep sql runs/digits "describe candidates"
    """
    from sweep.storage.query import query_tables

    emit(*query_tables(expand(run), query), as_json=as_json)


@click.command()
@RUN
def sync(run: Path) -> None:
    """Make MLflow equal to the tables of a run, for example after its server was down.

    sweep sync runs/digits
    """
    from sweep.cli.text import where_mlflow
    from sweep.execution.progress import Progress
    from sweep.execution.sync import make_tracker, mirror_run
    from sweep.status.state import load_run_state

    sweep = load_run_sweep(run)
    tracker = make_tracker(sweep)
    with Progress():
        tracker.open()
        mirror_run(tracker, load_run_state(sweep))
        tracker.close("FINISHED")
    if tracker.disabled:
        sys.exit(EXIT_FAILED)
    echo_err(where_mlflow(sweep))


@click.command()
@click.argument("name")
@click.option("--root", required=True, type=expand_home, metavar="PATH", help="Folder to download into.")
def fetch(name: str, root: Path) -> None:
    """Download a published data set and check its md5 sums.

    \b
    sweep fetch cifar10 --root data
    """
    from sweep.cli.fetch import fetch as download

    click.echo("\n".join(str(place) for place in download(name, root, report=echo_err)))


@click.command()
@RUN
@click.argument("candidate")
@click.option("--to", "target", required=True, type=expand_home, metavar="PATH", help="FILE.safetensors, .pth or .pt")
def export(run: Path, candidate: str, target: Path) -> None:
    """Write the merged weights of a candidate as a checkpoint, with a card that documents them.

    sweep export runs/digits 3f2a --to soup.safetensors
    """
    from sweep.execution.export import export as export_candidate

    click.echo("\n".join(str(file) for file in export_candidate(load_run_sweep(run), candidate, target)))


COMMANDS = (doctor, compact, stop, sql, sync, fetch, export)
