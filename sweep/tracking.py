"""MLflow beside the tables: the one door to it. What it shows is worked out in `sweep.mirror`.

Everything is written with `MlflowClient`, by the driver only, and found again by the tag `ms.key`, so that writing twice
changes nothing. Whatever goes wrong here is told once and stops nothing: the tables are the record.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shlex
import sqlite3
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweep.mirror import Record, best_records, cell_records, member_records, sweep_record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from torch import Tensor, nn

    ModelOf = Callable[[str], tuple[nn.Module, Tensor]]

MOST_RUNS = 2000
"""Runs of one kind; with more, MLflow's page and searches take minutes, where the tables answer at once."""

_LOCAL = "sqlite:///"
_ARTIFACTS = ("sweep.yaml", "run.json", "report.html")
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
_QUICK, _PATIENT = 4, 20  # seconds that one request to a server may take: to find out if it is there, and after that


def tracking_uri(storage: Path) -> str:
    """Where runs go: MLFLOW_TRACKING_URI, or else a data base beside the run folders, whatever the working folder is."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_LOCAL}{storage.expanduser().absolute() / 'mlflow.db'}"


def ui_command(uri: str) -> str:
    """What opens MLflow's page: a command on this machine only, or the address of a server."""
    if _is_server(uri):
        return uri
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)} --host 127.0.0.1 --workers 1"


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


@dataclass
class Tracker:
    """The runs of one sweep in MLflow. No method raises: the first failure is said once, then nothing more is tried.

    `storage` holds the run folders and takes the artifacts of a data base that is used without a server; `parameters`
    is the flattened configuration; `say` takes lines for people.
    """

    uri: str
    storage: Path
    sweep_name: str
    sweep_id: str
    parameters: Mapping[str, str]
    say: Callable[[str], None] = _to_stderr
    _lost: bool = field(default=False, init=False)
    _client: MlflowClient | None = field(default=None, init=False)
    _experiment: str = field(default="", init=False)
    _run: str = field(default="", init=False)

    def open(self) -> None:
        """Make the data base, the experiment `sweep/<name>` and the run of the sweep where they are missing."""
        self._attempt(lambda client: client.update_run(self._run, status="RUNNING"), _QUICK)

    def progress(self, done: int, failed: int, total: int, rate: float) -> None:
        """Candidates so far, and per second, as metrics of the sweep's run at the step `done`."""
        values = {"done": done, "failed": failed, "total": total, "per_second": rate}
        points = [(f"progress/candidates_{name}", value, _now(), done) for name, value in values.items()]
        self._attempt(lambda client: client.log_batch(self._run, metrics=_metrics(points)), _QUICK)

    def mirror(self, folder: Path, model_of: ModelOf | None, best: int = 3) -> None:
        """Make MLflow equal to the tables of a run folder; what is there already is not written again.

        The `best` merges in weight space become versions of the registered model of the sweep's name, the first of them
        with the alias `champion`. `model_of` takes a candidate_id and gives the model and a batch of its inputs (at least
        one example), with which it is traced by `torch.export`: the stored file holds tensors and a graph but no pickled
        code, loads without this package, on the CPU, and is fixed in evaluation mode.
        """
        self._attempt(lambda client: self._mirror(client, folder, model_of, best), _PATIENT)

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the run of the sweep, if there is one."""
        if self._client is not None:
            self._attempt(lambda client: client.set_terminated(self._run, status), _QUICK)

    def _attempt(self, action: Callable[[MlflowClient], object], seconds: int) -> None:
        if self._lost:
            return
        try:
            with _quiet():
                with _patience(self.uri, _QUICK):
                    client = self._connected()
                with _patience(self.uri, seconds):
                    action(client)
        except Exception as error:  # of MLflow, its data base, the network or the disk: none may stop the sweep
            self._lost = True
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            where = re.sub(r"//[^/@]*@", "//", self.uri)
            hint = f"`sweep sync {self.storage / self.sweep_name}` replays it"
            self.say(f"MLflow at {where} cannot be used ({cause[:200]}); going on without it: {hint}")

    def _connected(self) -> MlflowClient:
        """The client, after the experiment and the run of the sweep were found or made."""
        from mlflow import MlflowClient

        if self._client is None:
            with _only_one(self.uri):
                client = MlflowClient(tracking_uri=self.uri)
                self._experiment = self._found_experiment(client)
            query = f"tags.`ms.key` = '{self.sweep_id}'"
            runs = client.search_runs([self._experiment], query, max_results=1)
            self._run = runs[0].info.run_id if runs else self._new_run(client, "sweep", self.sweep_id, {})
            self._client = client
        return self._client

    def _found_experiment(self, client: MlflowClient) -> str:
        name = f"sweep/{self.sweep_name}"
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        place = None if _is_server(self.uri) else (self.storage.expanduser().absolute() / "mlflow-artifacts").as_uri()
        primary = "mlflow.experiment.primaryMetric"
        tags = {f"{primary}.name": "test/accuracy", f"{primary}.greaterIsBetter": "True"}
        return client.create_experiment(name, artifact_location=place, tags=tags)

    def _new_run(self, client: MlflowClient, kind: str, key: str, tags: Mapping[str, str]) -> str:
        own = {"ms.kind": kind, "ms.key": key, "mlflow.user": os.environ.get("USER", "unknown")}
        name = tags.get("mlflow.runName", self.sweep_name)
        return str(client.create_run(self._experiment, tags=own | tags, run_name=name).info.run_id)

    def _mirror(self, client: MlflowClient, folder: Path, model_of: ModelOf | None, best: int) -> None:
        known = self._known(client)
        sweep = sweep_record(folder, self.sweep_name, self.sweep_id, self.parameters)
        self._write_sweep(client, sweep, known[sweep.key], folder)
        chosen = best_records(folder, best)
        for records in (member_records(folder), cell_records(folder), chosen):
            if len(records) > MOST_RUNS:
                what = f"{len(records):,} runs of kind {records[0].kind} are too many for MLflow (at most {MOST_RUNS:,})"
                self.say(f"{what}: they are left out there, the tables hold them all")
                continue
            for record in records:
                self._write(client, record, known)
        if chosen and model_of is not None:
            _Shelf(client, self._experiment, self.sweep_name, self.say).fill(chosen, known, model_of)

    def _known(self, client: MlflowClient) -> dict[str, Run]:
        """Key -> run, of every run of the experiment: one search is cheaper than one per key."""
        runs, token = [], None
        while token != "":
            page = client.search_runs([self._experiment], max_results=1000, page_token=token)
            runs, token = [*runs, *page], page.token or ""
        return {run.data.tags["ms.key"]: run for run in runs if "ms.key" in run.data.tags}
