"""MLflow beside the tables. What its runs show is worked out in `sweep.page`, its models are in `sweep.shelf`.

Everything is written with `MlflowClient`, by the driver only, and found again by the tag `ms.key`: writing twice
changes nothing. Whatever goes wrong here is told once and stops nothing, for the tables are the record.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sweep.tracking.connection import (
    artifact_place,
    describe_error,
    exclusive,
    is_server,
    quiet_mlflow,
    registry_name,
    request_timeout,
)
from sweep.tracking.model_registry import ModelRegistry
from sweep.tracking.records import (
    MetricPoint,
    RunRecord,
    artifacts,
    best_records,
    cell_records,
    member_records,
    sweep_record,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from sweep.tracking.model_registry import ModelOf

_log = logging.getLogger(__name__)

MOST_RUNS = 2000  # of one kind: with more, MLflow's searches take minutes, where the tables answer at once
_QUICK, _PATIENT = 4, 20  # seconds for one request to a server: to find out if it is there, and after that
_PAUSE = 10  # seconds between two notes of progress: each costs a write


@dataclass
class Tracker:
    """The runs of one sweep in MLflow. No method raises: the first failure is logged, then nothing more is tried.

    `storage` holds the run folders and takes the artifacts of a data base that is used without a server; `parameters`
    is the flattened configuration.
    """

    uri: str
    storage: Path
    sweep_name: str
    sweep_id: str
    parameters: Mapping[str, str]
    disabled: bool = field(default=False, init=False)
    _client: MlflowClient | None = field(default=None, init=False)
    _experiment: str = field(default="", init=False)
    _run: str = field(default="", init=False)
    _begun: int = field(default=0, init=False)  # ms since 1970
    _noted: float = field(default=-_PAUSE, init=False)
    _told: tuple[int, int, int] | None = field(default=None, init=False)

    def open(self) -> None:
        """Make the data base, the experiment `sweep/<name>` and the run of the sweep where they are missing."""
        self._attempt(lambda client: client.update_run(self._run, status="RUNNING"), _QUICK)

    def progress(self, done: int, failed: int, total: int, rate: float) -> None:
        """Candidates so far, and per second, as metrics of the sweep's run at the step `done`; not at every call."""
        told = done, failed, total
        if told == self._told or (done < total and time.monotonic() - self._noted < _PAUSE):
            return
        self._told, self._noted = told, time.monotonic()
        values = ("done", done), ("failed", failed), ("total", total), ("per_second", rate)
        points = [MetricPoint(f"progress/candidates_{name}", value, done) for name, value in values]
        self._attempt(lambda client: client.log_batch(self._run, metrics=_metrics(points)), _QUICK)

    def mirror(self, folder: Path, model_of: ModelOf | None, best: int = 3) -> None:
        """Make MLflow equal to the tables of a run folder; what is there already is not written again.

        The `best` merges in weight space become versions of the registered model of the sweep's name, the first with
        the alias `champion`. `model_of` takes a candidate_id and gives the model and a batch of its inputs, with which
        it is traced by `torch.export`: the file holds tensors and a graph, no pickled code; it loads without this
        package, on the CPU, for batches of any size, and stays in evaluation mode.
        """
        self._attempt(lambda client: self._mirror(client, folder, model_of, best), _PATIENT)

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the run of the sweep, if there is one."""
        if self._client is not None:
            self._attempt(lambda client: _end(client, self._run, status, self._begun), _QUICK)

    def _attempt(self, action: Callable[[MlflowClient], object], seconds: int) -> None:
        if self.disabled:
            return
        try:
            with quiet_mlflow():
                import mlflow  # it installs log handlers, which the next block silences  # noqa: F401
            with quiet_mlflow(), request_timeout(self.uri, _QUICK):
                client = self._connected()
            with quiet_mlflow(), request_timeout(self.uri, seconds):
                action(client)
        except Exception as error:  # of MLflow, its data base, the network or the disk: none may stop the sweep
            self.disabled = True
            hint = f"going on without it: `sweep sync {self.storage / self.sweep_name}` replays it"
            _log.warning(f"{describe_error(self.uri, error)}; {hint}")

    def _connected(self) -> MlflowClient:
        """The client, after the experiment and the run of the sweep were found or made."""
        from mlflow import MlflowClient

        if self._client is None:
            with exclusive(self.uri):
                client = MlflowClient(tracking_uri=self.uri)
                self._experiment = self._found_experiment(client)
            runs = client.search_runs([self._experiment], f"tags.`ms.key` = '{self.sweep_id}'", max_results=1)
            own = RunRecord("sweep", self.sweep_id, self.sweep_name, {})
            info = (runs[0] if runs else self._new_run(client, own)).info
            self._run, self._begun = str(info.run_id), int(info.start_time)
            self._client = client
        return self._client

    def _found_experiment(self, client: MlflowClient) -> str:
        name = f"sweep/{self.sweep_name}"
        if (experiment := client.get_experiment_by_name(name)) is not None:
            return str(experiment.experiment_id)
        place = artifact_place(self.uri, self.storage)
        tags = {"mlflow.experiment.primaryMetric.name": "test/accuracy"}
        return client.create_experiment(name, place, tags | {"mlflow.experiment.primaryMetric.greaterIsBetter": "True"})

    def _new_run(self, client: MlflowClient, page: RunRecord) -> Run:
        begun = None if page.ended is None else page.ended - int(1000 * page.seconds)
        tags = page.tags | {"mlflow.user": os.environ.get("USER", "unknown")}
        return client.create_run(self._experiment, begun, tags, page.name)

    def _mirror(self, client: MlflowClient, folder: Path, model_of: ModelOf | None, best: int) -> None:
        known = self._known(client)
        self._write_sweep(client, folder, known[self.sweep_id])
        chosen = best_records(folder, best)
        runs: dict[str, str] = {}
        for pages in (member_records(folder), cell_records(folder), chosen):
            if len(pages) > MOST_RUNS:
                kind = pages[0].kind
                _log.warning(f"MLflow goes without {len(pages):,} runs of kind {kind}: more than {MOST_RUNS:,}")
            else:
                runs |= {page.key: self._write(client, page, known.get(page.key)) for page in pages}
        if chosen and model_of is not None:
            name, remote = registry_name(self.sweep_name), is_server(self.uri)
            ModelRegistry(client, self._experiment, name, remote).register_best(chosen, runs, model_of)

    def _known(self, client: MlflowClient) -> dict[str, Run]:
        """Key -> run, of every run of the experiment: one search is cheaper than one per key."""
        runs: list[Run] = []
        token: str | None = None
        while token != "":
            found = client.search_runs([self._experiment], max_results=1000, page_token=token)
            runs, token = [*runs, *found], found.token or ""
        return {run.data.tags["ms.key"]: run for run in runs if "ms.key" in run.data.tags}

    def _write_sweep(self, client: MlflowClient, folder: Path, run: Run) -> None:
        page = sweep_record(folder, self.sweep_name, self.sweep_id, self.parameters)
        if run.data.tags.get("ms.content") != page.content:
            for file in artifacts(folder):
                client.log_artifact(self._run, str(file))
            _log_record(client, self._run, page, run, {})

    def _write(self, client: MlflowClient, page: RunRecord, run: Run | None) -> str:
        """One run below that of the sweep, unless it is there with the same content, parent and status; its id."""
        parent = {"mlflow.parentRunId": self._run}
        same = (parent | {"ms.content": page.content}).items()
        if run is not None and run.info.status == page.status and same <= run.data.tags.items():
            return str(run.info.run_id)
        info = (run or self._new_run(client, page)).info
        _log_record(client, str(info.run_id), page, run, parent)
        _end(client, str(info.run_id), page.status, int(info.start_time), page.ended)
        return str(info.run_id)


def _log_record(client: MlflowClient, identity: str, page: RunRecord, run: Run | None, tags: Mapping[str, str]) -> None:
    """What a run lacks of a page, in one batch; the tag that says it is complete is written last of all."""
    from mlflow.entities import Param, RunTag

    params, latest = (run.data.params, run.data.metrics) if run else ({}, {})
    told = {**page.tags, **tags, "ms.content": page.content}
    for name in {"error", "ms.non_finite_values"} & run.data.tags.keys() - told.keys() if run else ():
        client.delete_tag(identity, name)
    client.log_batch(
        identity,
        metrics=_metrics(_new(client, identity, page.points, latest)),
        params=[Param(name, value) for name, value in page.params.items() if name not in params],
        tags=[RunTag(*tag) for tag in told.items()],
    )


def _new(
    client: MlflowClient, run: str, points: Iterable[MetricPoint], latest: Mapping[str, float]
) -> Iterator[MetricPoint]:
    """The points that a run lacks, by the newest value of each of its metrics."""
    for point in points:
        if point.time is not None or point.name not in latest:
            yield point
        elif latest[point.name] != point.value:
            yield point._replace(time=_next(client, run, point.name))


def _next(client: MlflowClient, run: str, name: str) -> int:
    """The time of a metric's new value: MLflow shows the latest one, also where the clock was set back since."""
    return max(_now(), *(known.timestamp + 1 for known in client.get_metric_history(run, name)))


def _end(client: MlflowClient, run: str, status: str, begun: int, at: int | None = None) -> None:
    """End a run, now where no time is given, and not before it began: the clock may have been set back since."""
    client.set_terminated(run, status, max(begun, _now() if at is None else at))


def _metrics(points: Iterable[MetricPoint]) -> list[Metric]:
    from mlflow.entities import Metric

    now = _now()
    return [Metric(name, value, now if at is None else at, step) for name, value, step, at in points]


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
