"""Trains members with Ray Tune: one trial for each training group with missing members."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.causes import NO_SPACE
from sweep.core.errors import root_cause
from sweep.core.masking import mask_secrets
from sweep.core.provenance import now
from sweep.execution.demand import ResourceWait
from sweep.execution.refusals import Answer, Refusals, Resources, answer, has_room, run_elsewhere
from sweep.execution.stragglers import StragglerDetector
from sweep.execution.training_order import TrainingOrder
from sweep.execution.training_stop import TrainingStop, ask_to_stop, stop_watch, withdraw_stop
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from sweep.config.spec import Execution
    from sweep.core.choice import PluginConfig
    from sweep.core.dataset import Dataset
    from sweep.execution.handshake import Handshake
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
_ANSWER = "answer"  # of a trial on a node that differs
_IS_FINAL = "is_final"
_FULL_BYTES = 1 << 20  # free bytes below which a disk counts as full: an experiment's state takes more


def _new_experiment() -> str:
    """The name of an experiment, with random digits, since a clock may repeat a time."""
    return f"{now():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"


@dataclass(frozen=True)
class TrialContext:
    """What all trials of an experiment share."""

    sweep: str
    groups: Mapping[str, TrainingGroup]
    datasets: Mapping[PluginConfig, Dataset]
    folder: Path
    execution: Execution
    handshake: Handshake
    experiment: str = field(default_factory=_new_experiment)


def train_members(
    groups: Sequence[TrainingGroup],
    context: TrialContext,
    on_ended: Callable[[int], None],
    stopping: Callable[[], bool],
) -> None:
    """Train groups in parallel with Ray Tune, calling `on_ended` with the number of members that ended.

    If the training of a member fails, its row records the cause and the other members continue. Raises StoreError if
    rows cannot be written, and LaunchError if no node may compute or has room. Once `stopping` returns true, running
    trainings save their state, and no more begin.
    """
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    order = TrainingOrder(groups)
    refusals = Refusals()
    stop = TrainingStop(stopping, partial(ask_to_stop, context.experiment))
    events = _TrialEvents(context, on_ended, refusals, stop)
    tuner = _tuner(
        context,
        search_alg=_searcher(order, stopping),
        callbacks=[_callback(events)],
        stop=_stopper(lambda: refusals.is_final or events.wait.error is not None or stop.is_over()),
    )
    try:
        with _disk_full_message(context.folder):
            results = tuner.fit()
    finally:
        withdraw_stop(context.experiment)
    refusals.raise_if_final()
    events.wait.raise_if_over()
    if not stopping():  # else what died was stopped, and is trained by the next call
        _record_failures(context, results, order)


def _tuner(context: TrialContext, *, search_alg: Any, callbacks: list[Any], stop: Any) -> Any:
    """An experiment of Ray Tune with one trial for each group."""
    from ray import tune

    execution = context.execution
    needed = _needed(execution)
    trainable = tune.with_parameters(_trial, context=context)
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": needed.cpus, "gpu": needed.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=search_alg,
            num_samples=len(context.groups),
            reuse_actors=True,  # one process runs many trials and imports its libraries once
            max_concurrent_trials=None if execution.workers == "auto" else execution.workers,
            trial_dirname_creator=lambda trial: trial.config["member"],
        ),
        run_config=tune.RunConfig(
            name=context.experiment,
            storage_path=str(context.folder / "tune"),
            failure_config=tune.FailureConfig(max_failures=execution.retries),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=None),
            callbacks=callbacks,
            stop=stop,
            verbose=0,
        ),
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


def _needed(execution: Execution) -> Resources:
    """The CPU cores and GPUs that Ray reserves for one trial."""
    return Resources(execution.threads, execution.gpus_per_member)


def _nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster."""
    import ray

    found: list[dict[str, Any]] = ray.nodes()
    return found


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


class _TrialEvents:
    """Counts members that ended, notes which trials run, and warns of trials that may hang and of nodes that differ."""

    def __init__(
        self, context: TrialContext, on_ended: Callable[[int], None], refusals: Refusals, stop: TrainingStop
    ) -> None:
        self.groups = context.groups
        self.on_ended = on_ended
        self.refusals = refusals
        self.stop = stop
        self.stragglers = StragglerDetector(context.execution.straggler_seconds)
        self.wait = ResourceWait(_needed(context.execution), context.execution.wait_seconds)

    def start(self, trial: Any) -> None:
        """A trial starts."""
        group = self.groups.get(_group_id(trial))
        self.stop.start(trial.trial_id)
        first = group.members[0] if group else None
        self.stragglers.start(_group_id(trial), (first.population.name, first.role) if first else None)

    def answer(self, trial: Any, result: Mapping[str, Any]) -> None:
        """A trial reports; one on a node that differs waits for another node from then on."""
        if _ANSWER in result:
            self.stragglers.drop(_group_id(trial))
            self.refusals.take(result[_ANSWER])
            self.refusals.is_final |= result[_IS_FINAL]

    def end(self, trial: Any) -> None:
        """A trial has ended, with or without an error. Once the run stops, it was saved, and is not trained."""
        group = self.groups.get(_group_id(trial))
        self.stop.finish(trial.trial_id)
        self.stragglers.finish(_group_id(trial))
        if self.stop.awaited is None:
            self.on_ended(len(group.missing) if group else 1)

    def look(self) -> None:
        """Show the progress, and warn of trials that may hang or that no node has room for."""
        self.on_ended(0)
        self.wait.look(_nodes, is_waiting=not self.stop.running)
        for group_id, duration in self.stragglers.new_stragglers():
            _log.warning(f"the training of {group_id} has run for {duration} and may hang: {_REMEDY}")


def _callback(events: _TrialEvents) -> Any:
    """A Tune callback for these events.

    Tune pickles it with the experiment, without the events, since they may refer to a terminal. It does little, since
    an exception in a callback aborts Tune.
    """
    from ray import tune

    class Callback(tune.Callback):
        events: _TrialEvents

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.events.start(trial)

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            self.events.answer(trial, result)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.events.end(trial)

        on_trial_error = on_trial_complete

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            self.events.look()

    callback = Callback()
    callback.events = events
    return callback


def _stopper(is_over: Callable[[], bool]) -> Any:
    """A Tune stopper that ends the experiment once `is_over` returns true; it is pickled without it."""
    from ray import tune

    class Stop(tune.Stopper):
        is_over: Callable[[], bool]

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return self.is_over()

    stop = Stop()
    stop.is_over = is_over
    return stop


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

    On a node that differs, the trial does nothing but wait for another node to do this, so that Tune starts no other
    trial in its place. Without another node it reports so, which ends the experiment.
    """
    from ray import tune

    needed = _needed(context.execution)
    refused: list[str] = []
    found = _train_without_secrets(config, context)
    while isinstance(found, Answer):
        refused.append(found.node)
        is_final = not has_room(needed, refused)
        tune.report({_ANSWER: found, _IS_FINAL: is_final, "failed": 1})
        if is_final:
            return {"failed": 1}
        found = run_elsewhere(_train_without_secrets, (config, context), needed, refused)
    return found


def _train_without_secrets(config: dict[str, Any], context: TrialContext) -> dict[str, Any] | Answer:
    """As `_train`; an error that quotes a secret is replaced, since Tune writes errors to files and to stderr."""
    try:
        return _train(config, context)
    except Exception as error:
        text = str(error)
        if mask_secrets(text) == text:
            raise
        masked = f"{type(error).__name__}: {mask_secrets(text)}"
    raise RuntimeError(masked)


def _train(config: dict[str, Any], context: TrialContext) -> dict[str, Any] | Answer:
    """Train a group here; the answer of this process if it may not.

    A training that has to stop is saved, and counts as failed for those that wait for it.
    """
    import torch

    from sweep.model.runtime import setup_worker
    from sweep.training.checkpoint import SaveTimes, TrainingStoppedError
    from sweep.training.members import train_group

    execution = context.execution
    own = answer(context.handshake, execution.gpus_per_member)
    if own.verdict.problem:
        return own
    group = context.groups[config["member"]]
    device = setup_worker(execution.threads, execution.gpus_per_member)
    dataset = context.datasets[group.members[0].population.dataset]
    folder = RunFolder(context.folder)
    with stop_watch(context.experiment) as is_stopped:
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
