"""Mirrors a run folder to MLflow. `records` computes what the runs show, `model_registry` stores the models.

The driver writes everything with `MlflowClient` and finds it again by the tag `ms.key`, so writing twice changes
nothing. An error is logged once and stops nothing, for the tables are the record.
"""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sweep.core.masking import mask_secrets
from sweep.tracking.connection import (
    artifact_location,
    exclusive,
    is_new_database,
    is_server,
    model_name,
    quiet_mlflow,
    request_timeout,
)
from sweep.tracking.errors import TrackingError, describe_error, remedy
from sweep.tracking.model_registry import ModelRegistry
from sweep.tracking.records import (
    CELL_TABLE,
    MAX_TABLE_ROWS,
    CellSummary,
    MetricPoint,
    RunRecord,
    artifacts,
    best_records,
    member_records,
    summarize_cells,
    sweep_record,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from sweep.tracking.model_registry import ModelLoader

_log = logging.getLogger(__name__)

MAX_RUNS = 2000  # of one kind: with more, MLflow's searches take minutes, where the tables answer at once
_PROBE_SECONDS = 4  # limit of one request to a server while it is not known whether the server answers
_REQUEST_SECONDS = 20  # limit of the other requests
_PROGRESS_SECONDS = 10  # between two reports of progress, each of which is a write

_FOLDER = "ms.folder"  # tag with the id of the run folder
_OPTIONAL_TAGS = {"error", "ms.non_finite_values", "mlflow.loggedArtifacts"}  # a later record may lack them


@dataclass
class Tracker:
    """The MLflow runs of one sweep. No method raises: the first error is logged, and afterwards nothing is tried.

    `storage` holds the run folders, and the artifacts if the runs go to a database file. `parameters` is the flattened
    configuration. The runs of a run folder carry `folder_id`, so that another sweep of the same name keeps its own.
    """

    uri: str
    storage: Path
    sweep_name: str
    sweep_id: str
    parameters: Mapping[str, str]
    folder_id: str
    disabled: bool = field(default=False, init=False)
    cancelled: bool = field(default=False, init=False)  # set by another thread: the mirror stops after its current run
    _client: MlflowClient | None = field(default=None, init=False)
    _experiment: str = field(default="", init=False)
    _run: str = field(default="", init=False)
    _started_at: int = field(default=0, init=False)  # ms since 1970
    _reported_at: float = field(default=-_PROGRESS_SECONDS, init=False)
    _reported: tuple[int, int, int] | None = field(default=None, init=False)

    def open(self) -> None:
        """Create the database, the experiment `sweep/<name>` and the run of the sweep if they do not exist."""
        self._attempt(lambda client: client.update_run(self._run, status="RUNNING"), _PROBE_SECONDS)

    def progress(self, done: int, failed: int, total: int, rate: float) -> None:
        """Log candidates so far, and per second, as metrics of the sweep's run at step `done`; at most every 10 s."""
        counts = (done, failed, total)
        is_early = time.monotonic() - self._reported_at < _PROGRESS_SECONDS
        if counts == self._reported or (done < total and is_early):
            return
        self._reported = counts
        self._reported_at = time.monotonic()
        values = {"done": done, "failed": failed, "total": total, "per_second": rate}
        points = [MetricPoint(f"progress/candidates_{name}", value, done) for name, value in values.items()]
        self._attempt(lambda client: client.log_batch(self._run, metrics=_metrics(points)), _PROBE_SECONDS)

    def mirror_members(self, folder: Path) -> None:
        """Write the runs of the members, which have no test metrics before their candidates are evaluated."""
        self._attempt(lambda client: self._mirror_members(client, folder), _REQUEST_SECONDS)

    def mirror(self, folder: Path, load_model: ModelLoader | None, best: int = 3) -> None:
        """Make MLflow equal to the tables of a run folder; runs that are up to date are not written again.

        The `best` merges in weight space become versions of the registered model of the run folder (`model_name`), the
        first with the alias `champion` if the validation split chose it. `load_model` takes a candidate_id and returns
        the model and a batch of its inputs, with which `torch.export` traces it: the file holds tensors and a graph, no
        pickled code. It loads without this package, on the CPU, for batches of any size, and stays in evaluation mode.
        """
        self._attempt(lambda client: self._mirror(client, folder, load_model, best), _REQUEST_SECONDS)

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the run of the sweep, if there is one."""
        if self._client is not None:
            self._attempt(lambda client: _end(client, self._run, status, self._started_at), _PROBE_SECONDS)

    def _attempt(self, action: Callable[[MlflowClient], object], seconds: int) -> None:
        if self.disabled:
            return
        try:
            with quiet_mlflow():
                import mlflow  # it installs log handlers, which the next block silences  # noqa: F401
            with quiet_mlflow(), request_timeout(self.uri, _PROBE_SECONDS):
                client = self._connect()
            with quiet_mlflow(), request_timeout(self.uri, seconds):
                action(client)
        except Exception as error:  # of MLflow, its database, the network or the disk: none may stop the sweep
            self.disabled = True
            hint = remedy(self.uri, error)
            problem = f"{describe_error(self.uri, error)}: {hint}" if hint else describe_error(self.uri, error)
            _log.warning(f"{problem}; going on without it: `sweep sync {self.storage / self.sweep_name}` replays it")

    def _connect(self) -> MlflowClient:
        """The client, once the experiment and the run of the sweep exist."""
        from mlflow import MlflowClient

        if self._client is None:
            with exclusive(self.uri):
                self._create_database()
                client = MlflowClient(tracking_uri=self.uri)
                self._experiment = self._find_experiment(client)
            info = (self._find_sweep_run(client) or self._create_run(client, self._sweep_record)).info
            self._run = str(info.run_id)
            self._started_at = int(info.start_time)
            self._client = client
        return self._client

    def _create_database(self) -> None:
        """Create a database file with its default experiment beside the run folders.

        The client would place it in the working folder, and writes that path into SQL without quoting it.
        """
        if is_new_database(self.uri):
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            SqlAlchemyStore(self.uri, artifact_location(self.uri, self.storage))

    @property
    def _sweep_record(self) -> RunRecord:
        """The sweep's own run before it shows anything."""
        return RunRecord("sweep", self.sweep_id, self.sweep_name, {})

    def _find_sweep_run(self, client: MlflowClient) -> Run | None:
        """The sweep's own run of this run folder. Runs of earlier versions belong to no folder and stay as they are."""
        runs = client.search_runs([self._experiment], f"tags.`ms.key` = '{self.sweep_id}'", max_results=1000)
        own = [run for run in runs if run.data.tags.get(_FOLDER) == self.folder_id]
        if not own and any(_FOLDER not in run.data.tags for run in runs):
            what = f"runs that an earlier version wrote stay in {self._experiment_name} as they are"
            _log.info(f"MLflow: {what}, beside the new ones; those without the tag {_FOLDER} can be deleted")
        return own[0] if own else None

    @property
    def _experiment_name(self) -> str:
        return f"sweep/{self.sweep_name}"

    def _find_experiment(self, client: MlflowClient) -> str:
        """The id of the sweep's experiment, which is created if it does not exist."""
        name = self._experiment_name
        if (experiment := client.get_experiment_by_name(name)) is not None:
            if experiment.lifecycle_stage == "deleted":
                raise self._deletion_error(experiment.experiment_id)
            return str(experiment.experiment_id)
        location = artifact_location(self.uri, self.storage)
        tags = {
            "mlflow.experiment.primaryMetric.name": "test/accuracy",
            "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        }
        return client.create_experiment(name, location, tags)

    def _deletion_error(self, experiment: str) -> TrackingError:
        """The error for a deleted experiment, with the command that restores it. A sweep does not undo a deletion."""
        what = f"the experiment {self._experiment_name} was deleted there"
        command = f"mlflow experiments restore --experiment-id {experiment}"
        variable = f"MLFLOW_TRACKING_URI={shlex.quote(mask_secrets(self.uri))}"
        return TrackingError(what, f"`{variable} {command}` restores it, and another name of the sweep makes a new one")

    def _create_run(self, client: MlflowClient, record: RunRecord, parent: Mapping[str, str] | None = None) -> Run:
        started_at = None if record.ended is None else record.ended - int(1000 * record.seconds)
        owner = {"mlflow.user": os.environ.get("USER", "unknown"), _FOLDER: self.folder_id}
        tags = {**record.tags, **owner, **(parent or {})}
        return client.create_run(self._experiment, started_at, tags, record.name)

    def _mirror_members(self, client: MlflowClient, folder: Path) -> None:
        records = member_records(folder)
        if len(records) <= MAX_RUNS:  # `mirror` reports a larger number
            self._write_all(client, records, self._find_runs(client))

    def _mirror(self, client: MlflowClient, folder: Path, load_model: ModelLoader | None, best: int) -> None:
        known = self._find_runs(client)
        cells = summarize_cells(folder)
        if self.sweep_id not in known:
            raise TrackingError("the run of this sweep was deleted there meanwhile")
        self._write_sweep(client, folder, cells, known[self.sweep_id])
        chosen = best_records(folder, best)
        runs: dict[str, str] = {}
        for records in (member_records(folder), cells.records, chosen):
            if len(records) > MAX_RUNS:
                kind = records[0].kind
                _log.warning(f"MLflow goes without {len(records):,} runs of kind {kind}: more than {MAX_RUNS:,}")
            else:
                runs |= self._write_all(client, records, known)
        if chosen and load_model is not None and not self.cancelled:
            name = model_name(self.sweep_name, self.folder_id)
            registry = ModelRegistry(client, self._experiment, name, is_server(self.uri))
            registry.register_best(chosen, runs, load_model, lambda: self.cancelled)
            if not self.cancelled:
                registry.set_champion(chosen[0])

    def _find_runs(self, client: MlflowClient) -> dict[str, Run]:
        """Key -> run, for every run of this run folder: one search is cheaper than one per key."""
        own = f"tags.`{_FOLDER}` = '{self.folder_id}'"
        runs: list[Run] = []
        token: str | None = None
        while token != "":
            page = client.search_runs([self._experiment], own, max_results=1000, page_token=token)
            runs += page
            token = page.token or ""
        return {run.data.tags["ms.key"]: run for run in runs if "ms.key" in run.data.tags}

    def _write_sweep(self, client: MlflowClient, folder: Path, cells: CellSummary, run: Run) -> None:
        """The sweep's own run with its files, unless it is up to date."""
        if cells.n_single > MAX_TABLE_ROWS:
            count = f"{cells.n_single:,} cells of one candidate"
            _log.warning(f"MLflow goes without the table of {count}: more than {MAX_TABLE_ROWS:,}")
        record = sweep_record(folder, self.sweep_name, self.sweep_id, self.parameters, cells)
        if run.data.tags.get("ms.content") == record.content:
            return
        if run.data.tags.get("ms.artifacts") != record.tags["ms.artifacts"]:
            for file in artifacts(folder):
                client.log_artifact(self._run, str(file))
            if cells.table:
                client.log_text(self._run, cells.table, CELL_TABLE)
        _log_record(client, self._run, record, run, {})

    def _write_all(
        self, client: MlflowClient, records: Iterable[RunRecord], known: Mapping[str, Run]
    ) -> dict[str, str]:
        """Write runs until the mirror is cancelled; key -> run id."""
        runs: dict[str, str] = {}
        for record in records:
            if self.cancelled:
                break
            runs[record.key] = self._write(client, record, known.get(record.key))
        return runs

    def _write(self, client: MlflowClient, record: RunRecord, run: Run | None) -> str:
        """Write a child of the sweep's run, unless content, parent and status are up to date; its id."""
        parent = {"mlflow.parentRunId": self._run}
        current = (parent | {"ms.content": record.content}).items()
        if run is not None and run.info.status == record.status and current <= run.data.tags.items():
            return str(run.info.run_id)
        info = (run or self._create_run(client, record, parent)).info
        identity = str(info.run_id)
        _log_record(client, identity, record, run, parent)
        started_at = int(info.start_time)
        ended_at = max(started_at, _now() if record.ended is None else record.ended)
        if (info.status, info.end_time) != (record.status, ended_at):
            client.set_terminated(identity, record.status, ended_at)
        return identity


def _log_record(
    client: MlflowClient, identity: str, record: RunRecord, run: Run | None, parent: Mapping[str, str]
) -> None:
    """Write in one batch what a run lacks of a record. The tag that marks it as complete is the last of the batch."""
    from mlflow.entities import Param, RunTag

    params: Mapping[str, str] = run.data.params if run else {}
    latest: Mapping[str, float] = run.data.metrics if run else {}
    present = dict(run.data.tags) if run else {**record.tags, **parent}  # a new run was created with its tags
    tags = {**record.tags, **parent, "ms.content": record.content}
    for name in _OPTIONAL_TAGS & present.keys() - tags.keys():
        client.delete_tag(identity, name)
    client.log_batch(
        identity,
        metrics=_metrics(_new_points(client, identity, record.points, latest)),
        params=[Param(name, value) for name, value in record.params.items() if name not in params],
        tags=[RunTag(name, value) for name, value in tags.items() if present.get(name) != value],
    )


def _new_points(
    client: MlflowClient, run: str, points: Iterable[MetricPoint], latest: Mapping[str, float]
) -> Iterator[MetricPoint]:
    """The points that a run lacks, by the newest value of each of its metrics."""
    for point in points:
        if point.time is not None or point.name not in latest:
            yield point
        elif latest[point.name] != point.value:
            yield point._replace(time=_next_time(client, run, point.name))


def _next_time(client: MlflowClient, run: str, name: str) -> int:
    """The time of a metric's new value: MLflow shows the latest, even if the system clock was set back since."""
    return max(_now(), *(known.timestamp + 1 for known in client.get_metric_history(run, name)))


def _end(client: MlflowClient, run: str, status: str, started_at: int) -> None:
    """End a run now, and not before its start: the system clock may have been set back since."""
    client.set_terminated(run, status, max(started_at, _now()))


def _metrics(points: Iterable[MetricPoint]) -> Sequence[Metric]:
    from mlflow.entities import Metric

    now = _now()
    return [Metric(name, value, now if at is None else at, step) for name, value, step, at in points]


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
