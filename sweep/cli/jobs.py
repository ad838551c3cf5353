"""The verbs for clusters: make their token, submit a sweep, read its log, fetch its report."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from sweep.cli.console import FILE, OVERRIDES, echo_err, shell_quote
from sweep.core.masking import mask_known
from sweep.core.paths import expand, expand_home

ADDRESS = click.option(
    "--address",
    metavar="URL",
    help="Dashboard of the cluster; by default RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265.",
)
JOB = click.argument("job")


@click.command()
@click.argument("file", type=expand_home)
def token(file: Path) -> None:
    """Make the token that all processes of a cluster share, in a new FILE that only you can read.

    Ray reads ~/.ray/auth_token where RAY_AUTH_MODE is `token`, or the file in RAY_AUTH_TOKEN_PATH.

    sweep token ~/.ray/auth_token
    """
    from sweep.execution.auth_token import create_token

    click.echo(create_token(expand(file)))
    echo_err("copy it to every node, with mode 0600, and set RAY_AUTH_MODE=token there")


@click.command()
@FILE
@OVERRIDES
@ADDRESS
@click.option("--retry", is_flag=True, help="Repeat failed members and candidates.")
@click.option("--detach", is_flag=True, help="Do not follow the log.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable for the job; no secrets.")
@click.option("--python", default="python", show_default=True, help="The Python of merge-sweep on the cluster.")
def submit(file: Path, overrides: tuple[str, ...], address: str | None, *, detach: bool, **options: Any) -> None:
    """Run a sweep on a cluster, by way of Ray Jobs, and follow its log. It goes on without this machine.

    The file, plug-ins, and data and checkpoints with relative paths are sent along, up to 100 MiB; absolute paths are
    those of the cluster. It needs merge-sweep of the same version there. Submit it again to continue it.

    \b
    sweep submit configs/digits.yaml execution.storage=/shared/runs
    sweep submit configs/digits.yaml execution.storage=/shared/runs --detach --address http://127.0.0.1:8265
    """
    from sweep.config.loader import load
    from sweep.execution.job_files import write_job
    from sweep.execution.jobs import Jobs

    sweep = load(file, overrides, elsewhere=True)
    variables = dict(_variable(each) for each in options["variables"])
    words = [*overrides, *(["--retry"] if options["retry"] else [])]
    with tempfile.TemporaryDirectory() as place:
        write_job(sweep, file, words, Path(place))
        jobs = Jobs(address or "")
        job_id = jobs.submit(sweep, Path(place), options["python"], variables)
    click.echo(job_id)
    echo_err(f"submitted to {jobs.address}: sweep run {shell_quote(file, overrides)}")
    option = f" --address {address}" if address else ""
    next_verbs = f"next: sweep log|status|stop|report {job_id}{option}"
    if detach:
        echo_err(next_verbs)
        return
    try:
        job = jobs.follow(job_id, _write)
    except KeyboardInterrupt:
        echo_err(f"the job goes on without this machine\n{next_verbs}")
        return
    echo_err(f"{job_id}: {job.status}\n{next_verbs}")
    sys.exit(job.code)


@click.command()
@JOB
@ADDRESS
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends.")
def log(job: str, address: str | None, follow: bool) -> None:
    """Print the log of JOB, an id or the name of a sweep, on a cluster.

    \b
    sweep log digits
    sweep log raysubmit_3fGk2 --follow
    """
    from sweep.execution.jobs import Jobs

    jobs = Jobs(address or "")
    found = jobs.find(job)
    if not follow:
        click.echo(mask_known(jobs.log(found)), nl=False)
        return
    sys.exit(jobs.follow(found.id, _write).code)


@click.command()
@JOB
@ADDRESS
@click.option("-o", "--output", type=expand_home, metavar="PATH", help="Where to write; SWEEP.html by default.")
def report(job: str, address: str | None, output: Path | None) -> None:
    """Fetch the report of JOB, an id or the name of a sweep, from a cluster. For a run folder: `analysis report RUN`.

    \b
    sweep report digits
    sweep report digits -o report.html --address http://127.0.0.1:8265
    """
    from sweep.execution.jobs import Jobs

    jobs = Jobs(address or "")
    found = jobs.find(job)
    target = expand(output or Path(f"{found.sweep}.html"))
    target.write_bytes(jobs.report(found))
    click.echo(target)


def status_of_job(name: str, address: str, *, as_json: bool) -> None:
    """Print what `sweep status` says on the cluster of a job's run folder."""
    from sweep.execution.jobs import Jobs

    jobs = Jobs(address)
    job = jobs.find(name)
    message = f": {job.message}" if job.status == "FAILED" and job.message else ""
    echo_err(f"{job.id}: {job.status}{message}")
    printed, code = jobs.ask(job, "sweep", "status", job.folder, *(["--json"] if as_json else []))
    click.echo(mask_known(printed), nl=False)
    sys.exit(code)


def stop_job(name: str, address: str) -> None:
    """Stop a job as SIGTERM does, and say so."""
    from sweep.execution.jobs import Jobs

    jobs = Jobs(address)
    job = jobs.find(name)
    jobs.stop(job)
    echo_err(f"asked {job.id} to stop; the same `sweep submit` continues")


def _write(text: str) -> None:
    click.echo(mask_known(text), nl=False)


def _variable(text: str) -> tuple[str, str]:
    """NAME and VALUE of an option `--env`."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise click.BadParameter(f"expected NAME=VALUE, got {name}", param_hint="--env")
    return name, value


COMMANDS = (token, submit, log, report)
