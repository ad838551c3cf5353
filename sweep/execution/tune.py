"""Trains members with Ray Tune: one trial for each training group with missing members."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.causes import NO_SPACE
from sweep.core.errors import root_cause
from sweep.core.provenance import now
from sweep.execution.stragglers import StragglerDetector
from sweep.execution.training_order import TrainingOrder
from sweep.execution.training_stop import TrainingStop
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from sweep.config.spec import Execution, Sweep
    from sweep.core.choice import PluginConfig
    from sweep.core.dataset import Dataset
    from sweep.plan.pools import TrainingGroup

_log = logging.getLogger(__name__)

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver has its own
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results are in the run folder: no CSV, JSON and TensorBoard copies
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "200",  # as Tune sets it for a grid search: pending trials make a cluster scale up
}
_REMEDY = "its process is one of those named ray::ImplicitFunc; if you kill it, the training continues in another one"
_STOP_NAMESPACE = b"merge-sweep"
_LOOK_SECONDS = 0.5  # between two looks of a training at whether it has to stop
_ANSWER_SECONDS = 2.0
_FULL_BYTES = 1 << 20  # free bytes below which a disk counts as full: an experiment's state takes more


@dataclass(frozen=True)
class TrialContext:
    """What all trials of an experiment share."""

    sweep: str
    groups: Mapping[str, TrainingGroup]
    datasets: Mapping[PluginConfig, Dataset]
    folder: Path
    execution: Execution
    experiment: str


def train_members(
    groups: Sequence[TrainingGroup],
    sweep: Sweep,
    datasets: Mapping[PluginConfig, Dataset],
    on_ended: Callable[[int], None],
    stopping: Callable[[], bool],
) -> None:
    """Train groups in parallel with Ray Tune, calling `on_ended` with the number of members that ended.

    If the training of a member fails, its row records the cause and the other members continue. Raises StoreError if
    rows cannot be written. Once `stopping` returns true, running trainings save their state, and no more begin.
    """
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    from ray import tune

    execution = sweep.execution
    name = f"{now():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"  # random, since a clock may repeat a time
    by_id = {group.id: group for group in groups}
    context = TrialContext(sweep.name, by_id, dict(datasets), sweep.folder, execution, name)
    order = TrainingOrder(groups)
    stop = TrainingStop(stopping, partial(_ask_to_stop, name))
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, context=context), _trial_resources(execution)),
        tune_config=tune.TuneConfig(
            search_alg=_searcher(order, stopping),
            num_samples=len(groups),
            reuse_actors=True,  # one process runs many trials and imports its libraries once
            max_concurrent_trials=None if execution.workers == "auto" else execution.workers,
            trial_dirname_creator=lambda trial: trial.config["member"],
        ),
        run_config=_run_config(context, on_ended, stop),
    )
    try:
        with _disk_full_message(sweep.folder):
            results = tuner.fit()
    finally:
        _withdraw_stop(name)
    if not stopping():  # else what died was stopped, and is trained by the next call
        _record_failures(context, results, order)


def _run_config(context: TrialContext, on_ended: Callable[[int], None], stop: TrainingStop) -> Any:
    """Where an experiment keeps its state, how often a trial is tried anew, and who follows it."""
    from ray import tune

    execution = context.execution
    return tune.RunConfig(
        name=context.experiment,
        storage_path=str(context.folder / "tune"),
        failure_config=tune.FailureConfig(max_failures=execution.retries),
        checkpoint_config=tune.CheckpointConfig(num_to_keep=None),
        callbacks=[_progress_callback(context, on_ended, stop, StragglerDetector(execution.straggler_seconds))],
        stop=_stopper(stop),
        verbose=0,
    )


def _searcher(order: TrainingOrder, stopping: Callable[[], bool]) -> Any:
    """A Tune searcher that suggests groups in the given order, and none once `stopping` returns true.

    It saves no state, since no experiment is restored.
    """
    from ray.tune.search import Searcher

    class OrderedGroups(Searcher):
        def __init__(self) -> None:
            super().__init__()
            self.group_of: dict[str, str] = {}  # trial id -> group id

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def suggest(self, trial_id: str) -> Any:
            if stopping():
                return Searcher.FINISHED
            group = order.next()
            if group:
                self.group_of[trial_id] = group.id
                return {"member": group.id}
            return Searcher.FINISHED if order.is_finished else None

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            is_trained = not error and result is not None and result["failed"] == 0
            order.on_end(self.group_of[trial_id], is_trained=is_trained)

        def save(self, checkpoint_path: str) -> None:
            Path(checkpoint_path).touch()

    return OrderedGroups()


def _trial_resources(execution: Execution) -> dict[str, float]:
    """The CPU cores and GPUs that Ray reserves for one trial."""
    return {"cpu": execution.threads, "gpu": execution.gpus_per_member}


@contextmanager
def _disk_full_message(folder: Path) -> Iterator[None]:
    """Raise StoreError if Tune fails on a full disk.

    Tune does not check its writes, so on a full disk it fails later with some other error, from reading half a file.
    """
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free > _FULL_BYTES:
            raise
        cause = f"{os.strerror(errno.ENOSPC)} ({type(error).__name__}: {error})"
        raise StoreError(f"Ray Tune could not keep its state in {folder / 'tune'}: {cause}", NO_SPACE) from error


def _progress_callback(
    context: TrialContext, on_ended: Callable[[int], None], stop: TrainingStop, stragglers: StragglerDetector
) -> Any:
    """A Tune callback that counts members that ended, notes which trials run, and warns of those that may hang.

    Tune pickles the callback with the experiment. Its attributes are left out, since they may refer to a terminal. It
    does little, since an exception in a callback aborts Tune.
    """
    from ray import tune

    class ProgressCallback(tune.Callback):
        on_ended: Callable[[int], None]
        stragglers: StragglerDetector
        sizes: Mapping[str, int]

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            stop.start(trial.trial_id)
            self.stragglers.start(_group_id(trial))

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            stop.finish(trial.trial_id)
            self.stragglers.finish(_group_id(trial))
            if stop.awaited is None:  # else it was saved, and is not trained
                self.on_ended(self.sizes.get(_group_id(trial), 1))

        on_trial_error = on_trial_complete

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            self.on_ended(0)
            for group_id, duration in self.stragglers.new_stragglers():
                _log.warning(f"the training of {group_id} has run for {duration} and may hang: {_REMEDY}")

    callback = ProgressCallback()
    callback.on_ended = on_ended
    callback.stragglers = stragglers
    callback.sizes = {group_id: len(group.missing) for group_id, group in context.groups.items()}
    return callback


def _stopper(stop: TrainingStop) -> Any:
    """A Tune stopper that ends the experiment once `stop` is over; it is pickled without it."""
    from ray import tune

    class Stop(tune.Stopper):
        stop: TrainingStop

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return self.stop.is_over()

    stopper = Stop()
    stopper.stop = stop
    return stopper


def _ask_to_stop(experiment: str) -> None:
    """Leave word for the trainings of an experiment, where those on every node find it at once."""
    from ray.experimental import internal_kv

    _call_cluster(lambda: internal_kv._internal_kv_put(experiment.encode(), b"stop", namespace=_STOP_NAMESPACE))


def _withdraw_stop(experiment: str) -> None:
    """Remove the word of `_ask_to_stop` from a cluster that outlives the run."""
    from ray.experimental import internal_kv

    _call_cluster(lambda: internal_kv._internal_kv_del(experiment.encode(), namespace=_STOP_NAMESPACE))


def _call_cluster(call: Callable[[], object]) -> None:
    """Make a call that may fail, and wait for seconds at most: a cluster that was stopped, too, does not answer."""

    def attempt() -> None:
        with suppress(Exception):
            call()

    thread = threading.Thread(target=attempt, name="stop-word", daemon=True)
    thread.start()
    thread.join(_ANSWER_SECONDS)


def _is_asked_to_stop(experiment: str) -> bool:
    """Whether the driver asked the trainings of an experiment to stop; false while the cluster does not answer."""
    from ray.experimental import internal_kv

    with suppress(Exception):
        return internal_kv._internal_kv_get(experiment.encode(), namespace=_STOP_NAMESPACE) is not None
    return False


@contextmanager
def _stop_watch(experiment: str) -> Iterator[Callable[[], bool]]:
    """Look for a request to stop in a thread, so that no step of a training waits for the cluster."""
    is_stopped = threading.Event()
    is_ended = threading.Event()
    if _is_asked_to_stop(experiment):
        is_stopped.set()

    def watch() -> None:
        while not (is_stopped.is_set() or is_ended.wait(_LOOK_SECONDS)):
            if _is_asked_to_stop(experiment):
                is_stopped.set()

    thread = threading.Thread(target=watch, name="stop-watch", daemon=True)
    thread.start()
    try:
        yield is_stopped.is_set
    finally:
        is_ended.set()


def _group_id(trial: Any) -> str:
    """The group that a trial trains, or the trial's id if it has no configuration (killed before its first report)."""
    return str(trial.config.get("member", trial.trial_id))


def _record_failures(context: TrialContext, results: Any, order: TrainingOrder) -> None:
    """Write a failed row for each member whose trial ended without a row, or whose start failed.

    Raises StoreError if the run folder could not be read or written.
    """
    from sweep.training.members import record_failed_starts, record_failure

    folder = RunFolder(context.folder)
    present = folder.member_statuses()
    # A trial killed before its first report has no configuration, but its folder is named after its group.
    errors = {Path(result.path).name: result.error for result in results if result.error}
    without_start = {group.id for group in order.without_start}
    for group_id, group in context.groups.items():
        if group_id in without_start:
            continue
        missing = [member for member in group.missing if member.id not in present]
        if not missing:
            continue
        if group_id not in errors:
            problem = f"the training of {group_id} ended without an error, and there is no row of it in {folder.path}"
            raise StoreError(problem, "all nodes have to see the same files in the run folder")
        cause = root_cause(errors[group_id])
        if StoreError.__name__ in cause:
            hint = NO_SPACE if os.strerror(errno.ENOSPC) in cause else ""
            raise StoreError(f"a training could not read or write the run folder: {cause}", hint)
        for member in missing:
            record_failure(member, context.sweep, folder, cause)
    record_failed_starts([member for group in order.without_start for member in group.missing], context.sweep, folder)


def _trial(config: dict[str, Any], *, context: TrialContext) -> dict[str, Any]:
    """Run one trial: train a group, write its members and return the number of failed members.

    A training that has to stop is saved, and counts as failed for those that wait for it.
    """
    import torch

    from sweep.model.runtime import setup_worker
    from sweep.training.checkpoint import SaveTimes, TrainingStoppedError
    from sweep.training.members import train_group

    execution = context.execution
    group = context.groups[config["member"]]
    device = setup_worker(execution.threads, execution.gpus_per_member)
    dataset = context.datasets[group.members[0].population.dataset]
    folder = RunFolder(context.folder)
    with _stop_watch(context.experiment) as is_stopped:
        if is_stopped():
            return {"failed": len(group.missing)}
        times = SaveTimes(execution.checkpoint_seconds, is_stopped)
        try:
            failed = train_group(group, context.sweep, dataset, folder, str(device), save_times=times)
        except TrainingStoppedError:
            failed = len(group.missing)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return {"failed": failed}
