"""The members through Ray Tune: one trial for each group that lacks some in the run folder."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.errors import root_cause
from sweep.core.provenance import now
from sweep.execution.stragglers import StragglerDetector
from sweep.execution.training_order import TrainingOrder
from sweep.storage.files import NO_SPACE, StoreError
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
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results are in our tables: no CSV, JSON and TensorBoard copies
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "200",  # as for a grid: trials that wait for a place make a cluster grow
}
_REMEDY = "its process is one of those named ray::ImplicitFunc; if you kill it, the training continues in another one"
_LITTLE = 1 << 20  # bytes: less than the state of an experiment takes


@dataclass(frozen=True)
class TrialContext:
    """What all trials have in common."""

    sweep: str
    groups: Mapping[str, TrainingGroup]
    datasets: Mapping[PluginConfig, Dataset]
    folder: Path
    execution: Execution


def train_members(
    groups: Sequence[TrainingGroup],
    sweep: Sweep,
    datasets: Mapping[PluginConfig, Dataset],
    on_ended: Callable[[int], None],
    stopping: Callable[[], bool],
) -> None:
    """Train groups in parallel on the running Ray: `on_ended` is called with the number of members that ended.

    A member whose training fails gets a row with its cause and the others go on. Raises StoreError where rows cannot be
    written, and KeyboardInterrupt once `stopping` returns true and trainings are left.
    """
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    from ray import tune

    execution = sweep.execution
    job = TrialContext(sweep.name, {group.id: group for group in groups}, dict(datasets), sweep.folder, execution)
    order = TrainingOrder(groups)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, job=job), _share(execution)),
        tune_config=tune.TuneConfig(
            search_alg=_searcher(order),
            num_samples=len(groups),
            # A trial depends on its arguments alone, so the imports of one process serve many trials.
            reuse_actors=True,
            max_concurrent_trials=None if execution.workers == "auto" else execution.workers,
            trial_dirname_creator=lambda trial: trial.config["member"],
        ),
        run_config=tune.RunConfig(
            name=f"{now():%Y%m%d-%H%M%S}-{os.urandom(2).hex()}",  # a clock may stand or go back
            storage_path=str(sweep.folder / "tune"),
            failure_config=tune.FailureConfig(max_failures=execution.retries),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=None),
            callbacks=[_progress_callback(job, on_ended, StragglerDetector(execution.straggler_seconds))],
            stop=_stopper(stopping),
            verbose=0,
        ),
    )
    with _disk_full_message(sweep.folder):
        results = tuner.fit()
    _record_failures(job, results, order)


def _searcher(order: TrainingOrder) -> Any:
    """A Tune searcher that suggests groups in their order; an experiment is never restored, so it has no state."""
    from ray.tune.search import Searcher

    class OrderedGroups(Searcher):
        def __init__(self) -> None:
            super().__init__()
            self.group_of: dict[str, str] = {}  # trial -> group

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def suggest(self, trial_id: str) -> Any:
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

        def restore(self, checkpoint_path: str) -> None:
            raise NotImplementedError

    return OrderedGroups()


def _share(execution: Execution) -> dict[str, float]:
    """What a trial takes of the cluster."""
    return {"cpu": execution.threads, "gpu": execution.gpus_per_member}


@contextmanager
def _disk_full_message(folder: Path) -> Iterator[None]:
    """Tune does not check what it writes: on a full disc it fails, with any error, on reading half a file."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free > _LITTLE:
            raise
        cause = f"{os.strerror(errno.ENOSPC)} ({type(error).__name__}: {error})"
        raise StoreError(f"Ray Tune could not keep its state in {folder / 'tune'}: {cause}", NO_SPACE) from error


def _progress_callback(job: TrialContext, on_ended: Callable[[int], None], watch: StragglerDetector) -> Any:
    """A Tune callback that counts, and warns of trials that may hang.

    It is pickled with the experiment, so without what it calls, which may hold a terminal. Tune aborts on an exception
    in a callback, so it does next to nothing.
    """
    from ray import tune

    class Counter(tune.Callback):
        on_ended: Callable[[int], None]
        watch: StragglerDetector
        sizes: Mapping[str, int]

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.watch.start(_member(trial))

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.watch.finish(_member(trial))
            self.on_ended(self.sizes.get(_member(trial), 1))

        on_trial_error = on_trial_complete

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            self.on_ended(0)
            for member, while_ in self.watch.new_stragglers():
                _log.warning(f"the training of {member} has run for {while_} and may hang: {_REMEDY}")

    counter = Counter()
    counter.on_ended = on_ended
    counter.watch = watch
    counter.sizes = {name: len(group.missing) for name, group in job.groups.items()}
    return counter


def _stopper(stopping: Callable[[], bool]) -> Any:
    """A Tune stopper, pickled without what it calls, too."""
    from ray import tune

    class Stop(tune.Stopper):
        stopping: Callable[[], bool]

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return self.stopping()

    stop = Stop()
    stop.stopping = stopping
    return stop


def _member(trial: Any) -> str:
    """The group that a trial trains; one that was killed before it reported may have no configuration."""
    return str(trial.config.get("member", trial.trial_id))


def _record_failures(job: TrialContext, results: Any, order: TrainingOrder) -> None:
    """A failed row for each member whose trial ended without one, or whose start failed."""
    from sweep.training.members import record_failed_starts, record_failure

    folder = RunFolder(job.folder)
    present = folder.member_statuses()
    # A trial that was killed before it reported has no configuration, but a folder named by its group.
    errors = {Path(result.path).name: result.error for result in results if result.error}
    without_start = {group.id for group in order.without_start}
    for identity, group in job.groups.items():
        if identity in without_start:
            continue
        lacking = [member for member in group.missing if member.id not in present]
        if not lacking:
            continue
        if identity not in errors:
            raise KeyboardInterrupt
        cause = root_cause(errors[identity])
        if StoreError.__name__ in cause:
            hint = NO_SPACE if os.strerror(errno.ENOSPC) in cause else ""
            raise StoreError(f"a training could not read or write the run folder: {cause}", hint)
        for member in lacking:
            record_failure(member, job.sweep, folder, cause)
    record_failed_starts([member for group in order.without_start for member in group.missing], job.sweep, folder)


def _trial(config: dict[str, Any], *, job: TrialContext) -> dict[str, Any]:
    """One trial: train a group and write its members down."""
    import torch

    from sweep.model.runtime import setup_worker
    from sweep.training.members import train_group

    execution = job.execution
    group = job.groups[config["member"]]
    device = setup_worker(execution.threads, execution.gpus_per_member)
    dataset = job.datasets[group.members[0].population.dataset]
    every = execution.checkpoint_seconds
    failed = train_group(group, job.sweep, dataset, RunFolder(job.folder), str(device), checkpoint_seconds=every)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return {"failed": failed}
