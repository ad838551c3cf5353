"""Sweeps as jobs of a cluster, by way of Ray Jobs: submit one, follow its log, stop it, ask for its report."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from sweep.config.spec import Sweep
from sweep.core.errors import UserError
from sweep.core.masking import is_secret, mask_secrets
from sweep.core.provenance import code_version
from sweep.core.termination import EXIT_TERMINATED
from sweep.execution import job_script
from sweep.execution.auth_token import auth_environment, check_token_file
from sweep.execution.ray_checks import connection_problem

DASHBOARD = "http://127.0.0.1:8265"
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
"""Ray's own variable for the address of the dashboard; `ray job` reads it, too."""
_TUNNEL = "`ray dashboard cluster.yaml` or `ssh -N -L 8265:127.0.0.1:8265 HEAD` leads to the dashboard of a cluster"
_STOP_SECONDS = 60
"""Ray kills a job 3 s after SIGTERM; a run may take 30 s to save what it trains."""
_LOGGERS = (
    *("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"),
    "ray._private.runtime_env.packaging",
)
_RETRY_SECONDS = 60
_POLL_SECONDS = 0.5
_VERB_SECONDS = 600
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class JobError(UserError):
    """A cluster that takes no jobs, or a job that is not there."""


class Job(NamedTuple):
    """One sweep on a cluster."""

    id: str
    sweep: str
    folder: str
    status: str
    message: str
    exit_code: int | None
    started_at: float
    runtime_env: Mapping[str, Any]
    python: str

    @property
    def has_ended(self) -> bool:
        """Whether nothing of the job runs any more."""
        return self.status in _ENDED

    @property
    def code(self) -> int:
        """The exit code of the sweep."""
        if self.status == "SUCCEEDED":
            return 0
        return EXIT_TERMINATED if self.status == "STOPPED" else self.exit_code or 1


class Unseen:
    """Writes a log that may be read from its beginning again and again, each character once and without secrets."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._n_read = 0
        self._n_written = 0

    def restart(self) -> None:
        """The next text is the beginning again."""
        self._n_read = 0

    def __call__(self, text: str) -> None:
        """Write what is new in the next text."""
        new = text[max(0, self._n_written - self._n_read) :]
        self._n_read += len(text)
        if new:
            self._write(mask_secrets(new))
            self._n_written += len(new)


class Jobs:
    """The jobs of the cluster whose dashboard is at an address. Raises JobError if there is none."""

    def __init__(self, address: str = "") -> None:
        self.address = address or os.environ.get(ADDRESS_VARIABLE) or DASHBOARD
        parts, port = _parsed(self.address)
        check_token_file()
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ.update(auth_environment(self.address))
        problem = connection_problem(str(parts.hostname), port)
        if problem:
            raise JobError(f"no dashboard at {self.address}: {problem}", _TUNNEL)
        self._client = self._connected(parts.geturl())

    def _connected(self, address: str) -> Any:
        """Ray's client of a dashboard."""
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            return JobSubmissionClient(address)
        except AuthenticationError:
            hint = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, as on the cluster"
            raise JobError(f"the cluster at {self.address} refuses the token of this process", hint) from None
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = next(iter(str(error).splitlines()), "")
            raise JobError(f"no jobs at {self.address}: {first}", _TUNNEL) from None

    def submit(self, sweep: Sweep, folder: Path, python: str, variables: Mapping[str, str]) -> str:
        """Send a folder that `write_job` made and start its sweep; returns the id of the job."""
        for name, value in variables.items():
            if is_secret(name) or mask_secrets(f"{name}={value}") != f"{name}={value}":
                hint = "all users of a cluster see the variables of jobs: set it on the nodes instead"
                raise JobError(f"{name} holds a secret and is not sent", hint)
        environment = {
            "working_dir": str(folder),
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS), **variables},
        }
        place = sweep.execution.storage / sweep.name
        about = {"sweep": sweep.name, "folder": str(place), "merge_sweep": code_version(), "python": python}
        entry = f"exec {shlex.quote(python)} {job_script.SCRIPT}"
        metadata = {key: mask_secrets(value) for key, value in about.items()}
        return str(self._client.submit_job(entrypoint=entry, runtime_env=environment, metadata=metadata))

    def find(self, name: str) -> Job:
        """The job with this id, else the newest of the sweep or run folder with this name. Raises JobError."""
        jobs = sorted(filter(None, map(_job, self._client.list_jobs())), key=lambda job: job.started_at)
        wanted = name.rstrip("/")
        found = [job for job in jobs if wanted in (job.id, job.sweep, job.folder)]
        if found:
            return found[-1]
        known = ", ".join(f"{job.sweep} ({job.id}, {job.status})" for job in jobs[-5:]) or "none"
        raise JobError(f"no job or sweep {name} at {self.address}", f"submitted there: {known}")

    def follow(self, job_id: str, write: Callable[[str], None]) -> Job:
        """Write the log of a job until it ends; a connection that breaks is tried again for a minute."""
        from aiohttp import ClientError

        unseen = Unseen(write)
        broken_at = None
        while True:
            try:
                asyncio.run(self._tail(job_id, unseen))
                job = _job(self._client.get_job_info(job_id))
                if job is None or job.has_ended:
                    return job or self.find(job_id)
                broken_at = None
            except (OSError, RuntimeError, ClientError) as error:
                broken_at = broken_at or time.monotonic()
                if time.monotonic() - broken_at > _RETRY_SECONDS:
                    hint = f"the job goes on: `sweep log {job_id}` follows it again"
                    raise JobError(f"the connection to {self.address} is broken: {error}", hint) from None
            time.sleep(_POLL_SECONDS)

    async def _tail(self, job_id: str, unseen: Unseen) -> None:
        """Read the log of a job from its beginning to its end."""
        unseen.restart()
        async for text in self._client.tail_job_logs(job_id):
            unseen(text)

    def log(self, job: Job) -> str:
        """The log of a job so far."""
        return mask_secrets(self._client.get_job_logs(job.id))

    def stop(self, job: Job) -> None:
        """Send SIGTERM to a job: trainings are saved. Raises JobError if it has ended."""
        if job.has_ended:
            raise JobError(f"{job.id} has ended: {job.status}")
        self._client.stop_job(job.id)

    def ask(self, job: Job, *words: str) -> tuple[str, int]:
        """What `python -m WORDS` prints where a job has its run folder and plug-ins, and the exit code.

        Ray drops the files of a job some time after its end; then it is asked without them.
        """
        kept = {key: value for key, value in job.runtime_env.items() if key in ("working_dir", "env_vars")}
        command = shlex.join([job.python, "-m", *words])
        for environment in (kept, {}):
            details = self._completed(f"exec {command}", environment)
            if details.driver_exit_code is not None:
                break
        printed = str(self._client.get_job_logs(details.submission_id))
        printed = re.sub(r"\A.*?^Running entrypoint for job [^\n]*\n", "", printed, flags=re.DOTALL | re.MULTILINE)
        if details.driver_exit_code is None:
            raise JobError(f"{command} cannot run at {self.address}: {details.message}")
        return printed, int(details.driver_exit_code)

    def _completed(self, entry: str, environment: dict[str, Any]) -> Any:
        """The details of a short job after its end. Raises JobError if it takes too long."""
        job_id = self._client.submit_job(entrypoint=entry, runtime_env=environment)
        end = time.monotonic() + _VERB_SECONDS
        while time.monotonic() < end:
            details = self._client.get_job_info(job_id)
            if str(details.status.value) in _ENDED:
                return details
            time.sleep(_POLL_SECONDS)
        self._client.stop_job(job_id)
        raise JobError(f"{entry} has not ended after {_VERB_SECONDS} seconds", "is the cluster's head busy?")

    def report(self, job: Job) -> bytes:
        """The report of a job's run folder as HTML. Raises JobError with what the cluster printed."""
        printed, _ = self.ask(job, "sweep.execution.job_script", "report", job.folder)
        found = re.search(rf"^{job_script.REPORT_MARK}(\S+)$", printed, re.MULTILINE)
        if found is None:
            raise JobError(f"no report of {job.folder}: {mask_secrets(printed).strip()}")
        return base64.b64decode(found[1])


def _parsed(address: str) -> tuple[SplitResult, int]:
    """The parts of an address and its port. Raises JobError for one that no dashboard can have."""
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # urllib's, for brackets and ports
        parts = SplitResult("", "", "", "", "")
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise JobError(f"expected the address of a dashboard, such as {DASHBOARD}, got {address}", _TUNNEL)
    return parts, port


def _job(details: Any) -> Job | None:
    """A sweep among the jobs of a cluster; None for another job."""
    about = details.metadata or {}
    if not {"sweep", "folder", "python"} <= about.keys() or not details.submission_id:
        return None
    return Job(
        id=details.submission_id,
        sweep=about["sweep"],
        folder=about["folder"],
        status=str(details.status.value),
        message=mask_secrets(details.message or ""),
        exit_code=details.driver_exit_code,
        started_at=float(details.start_time or 0) / 1000,
        runtime_env=details.runtime_env or {},
        python=about["python"],
    )
