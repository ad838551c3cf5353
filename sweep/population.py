"""The members through Ray Tune: one trial for each that is not in the run folder."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.files import NO_SPACE, StoreError, now
from sweep.store import RunFolder

if TYPE_CHECKING:
    from sweep.data import Dataset
    from sweep.grid import Choice
    from sweep.lineage import Member
    from sweep.spec import Execution, Sweep

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver has its own
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results are in our tables: no CSV, JSON and TensorBoard copies
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}
_LITTLE = 1 << 20  # bytes: less than the state of an experiment takes


@dataclass(frozen=True)
class Job:
    """What all trials have in common."""

    sweep: str
    members: Mapping[str, Member]
    datasets: Mapping[Choice, Dataset]
    folder: Path
    execution: Execution


def train_members(
    members: Sequence[Member],
    sweep: Sweep,
    datasets: Mapping[Choice, Dataset],
    told: Callable[[int], None],
    stopping: Callable[[], bool],
) -> None:
    """Train members in parallel on the running Ray; `told` is called with how many have come to an end since.

    A member whose training fails gets a row with its cause and the others go on. Raises StoreError where rows cannot be
    written, and KeyboardInterrupt once `stopping` has said so and trainings were left.
    """
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    from ray import tune

    execution = sweep.execution
    resources = {"cpu": execution.threads, "gpu": execution.gpus_per_member}
    job = Job(sweep.name, {member.id: member for member in members}, dict(datasets), sweep.folder, execution)
    counter, stop = _watchers(told, stopping)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, job=job), resources),
        param_space={"member": tune.grid_search(list(job.members))},
        tune_config=tune.TuneConfig(
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
            callbacks=[counter],
            stop=stop,
            verbose=0,
        ),
    )
    with _told_of_a_full_disc(sweep.folder):
        results = tuner.fit()
    _settle(job, results)


@contextmanager
def _told_of_a_full_disc(folder: Path) -> Iterator[None]:
    """Tune does not check what it writes: on a full disc it fails, with any error, on reading half a file."""
    try:
        yield
    except Exception as error:
        if shutil.disk_usage(folder).free > _LITTLE:
            raise
        cause = f"{os.strerror(errno.ENOSPC)} ({type(error).__name__}: {error})"
        raise StoreError(f"Ray Tune could not keep its state in {folder / 'tune'}: {cause}", NO_SPACE) from error


def _watchers(told: Callable[[int], None], stopping: Callable[[], bool]) -> tuple[Any, Any]:
    """A Tune callback that counts, and a Tune stopper.

    Both are pickled with the experiment, so without what they call, which may hold a terminal. Tune aborts on an
    exception in a callback, so it does nothing but count.
    """
    from ray import tune

    class Watcher:
        told: Callable[[int], None]
        stopping: Callable[[], bool]

        def __getstate__(self) -> dict[str, Any]:
            return {}

    class Counter(Watcher, tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.told(1)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.told(1)

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            self.told(0)

    class Stop(Watcher, tune.Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return self.stopping()

    counter, stop = Counter(), Stop()
    counter.told, stop.stopping = told, stopping
    return counter, stop


def _settle(job: Job, results: Any) -> None:
    """A failed row for each member whose trial ended without one."""
    from sweep.member import fail

    folder = RunFolder(job.folder)
    present = folder.statuses("members", "member_id")
    # A trial that was killed before it reported has no configuration, but a folder named by its member.
    errors = {Path(result.path).name: result.error for result in results if result.error}
    for identity, member in job.members.items():
        if identity in present:
            continue
        if identity not in errors:
            raise KeyboardInterrupt
        cause = _last_line(errors[identity])
        if StoreError.__name__ in cause:
            hint = NO_SPACE if os.strerror(errno.ENOSPC) in cause else ""
            raise StoreError(f"a training could not read or write the run folder: {cause}", hint)
        fail(member, job.sweep, folder, cause)


def _last_line(error: Exception) -> str:
    """What a traceback from another process ends with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _trial(config: dict[str, Any], *, job: Job) -> dict[str, Any]:
    """One trial: train a member and write it down."""
    import torch

    from sweep.member import train_member
    from sweep.models import steady

    execution, member = job.execution, job.members[config["member"]]
    device = steady(execution.threads, execution.gpus_per_member)
    dataset, every = job.datasets[member.population.dataset], execution.checkpoint_seconds
    train_member(member, job.sweep, dataset, RunFolder(job.folder), str(device), checkpoint_seconds=every)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return {"trained": 1}
