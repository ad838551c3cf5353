"""A run from plan to record: missing members, then candidates without a row, then MLflow."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from sweep.config.spec import Sweep
from sweep.core.termination import EXIT_REQUEUE, EXIT_TERMINATED
from sweep.execution.invocation import StopRequest, is_settled, new_run_info, recorded
from sweep.execution.stages import RunContext, evaluate, import_members, train
from sweep.status.state import RunState, load_state, with_recorded_settings, write_plan_files
from sweep.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from sweep.execution.cluster import BackgroundCluster
    from sweep.execution.handshake import Handshake
    from sweep.execution.progress import Progress
    from sweep.tracking.background import BackgroundTracker

_log = logging.getLogger(__name__)


def run(
    sweep: Sweep,
    progress: Progress | None = None,
    *,
    command: str = "sweep.run",
    overrides: Sequence[str] = (),
    retry: bool = False,
    requeue: bool = False,
) -> RunState:
    """Carry out what is left of a sweep; the same call again continues it. `retry` repeats what failed.

    Raises ConfigError, StoreError or LaunchError before anything is computed where that is possible; StoppedError, a
    KeyboardInterrupt, after a request to stop, with everything that was done written down. `requeue` decides its code.
    """
    if progress is None:
        from sweep.execution.progress import Progress

        with Progress(sweep.folder / "log.txt") as progress:
            return run(sweep, progress, command=command, overrides=overrides, retry=retry, requeue=requeue)
    folder = RunFolder(sweep.folder)
    stopping = StopRequest(folder.path, EXIT_REQUEUE if requeue else EXIT_TERMINATED)
    with stopping.on_signals():
        state = load_state(with_recorded_settings(sweep))
        if not (retry or _is_incomplete(state)) and is_settled(folder, sweep):
            return state
        with folder.lock(command):
            if retry:
                _log.info(f"{folder.retire_failures()} parts of members and candidates are made anew")
            return _run_locked(state.reloaded(), progress, stopping, command, overrides)


def _run_locked(
    state: RunState, progress: Progress, stopping: StopRequest, command: str, overrides: Sequence[str]
) -> RunState:
    """Compute what is missing and make MLflow equal to the tables; returns the state at the end."""
    from sweep.status.checkpoint_checks import checkpoint_notes
    from sweep.status.preflight import check_networks, datasets

    sweep = state.sweep
    folder = state.folder
    with ExitStack() as stack:
        loaded = datasets(sweep)
        imported = [each.file for each in state.planned if each.file and state.members.get(each.id) == "ok"]
        check_networks(sweep, loaded, imported)
        for note in checkpoint_notes(sweep, loaded, imported):
            _log.info(note)
        cluster = stack.enter_context(_start_ray(state)) if _is_incomplete(state) else None
        folder.create(new_run_info(sweep))
        write_plan_files(folder, sweep, state.plan, state.known)
        info = stack.enter_context(recorded(folder, sweep, command, overrides))
        tracker = stack.enter_context(_tracked(state))
        if cluster:
            handshake = stack.enter_context(_handshake(state))
            _compute(RunContext(state, loaded, progress, stopping, tracker, info, handshake), cluster)
    return state.reloaded()


def _is_incomplete(state: RunState) -> bool:
    """Whether anything is left for Ray to compute."""
    return bool(state.missing or state.n_pending or state.n_uninspected or state.n_missing_pairs)


def _start_ray(state: RunState) -> BackgroundCluster:
    """Ray, which starts while the plan is written, images are decoded and checkpoints are imported.

    It is not started before all checks have passed: an error would wait for Ray's start and end.
    """
    from sweep.execution.cluster import BackgroundCluster

    _log.info(f"starting Ray: {_pending_work(state)}")
    return BackgroundCluster(state.sweep.execution)


def _handshake(state: RunState) -> AbstractContextManager[Handshake]:
    """What every process that computes rows must agree with."""
    from sweep.execution.handshake import open_handshake

    return open_handshake(state.folder.path, state.sweep.execution)


def _compute(context: RunContext, cluster: BackgroundCluster) -> None:
    """Compute what is missing, and begin to shut Ray down."""
    from sweep.status.changes import describe_changes
    from sweep.storage.compact import compact_if_large

    if not cluster.is_local:
        from sweep.execution.node_checks import check_nodes

        context.info["invocations"][-1]["nodes"] = check_nodes(context.handshake)
    changes = describe_changes(context.info["invocations"][-2:])
    if changes:
        _log.warning(f"{changes}; earlier rows stay, and new ones stand beside them")
    for dataset in context.datasets.values():
        dataset.decode()  # here, once: all workers share the result
    import_members(context)
    cluster.wait_until_up()
    with context.stopping.finishing():
        train(context)
    if context.tracker:
        context.tracker.mirror_members(context.state.folder.path, context.state.sweep.execution.mlflow_models)
    with context.stopping.finishing():
        evaluate(context)
    context.progress.end()
    cluster.shut_down()
    compact_if_large(context.state.folder)


@contextmanager
def _tracked(state: RunState) -> Iterator[BackgroundTracker | None]:
    """Report the run to MLflow if configured, in a thread, and make MLflow equal to the tables at the end."""
    if not state.sweep.execution.mlflow:
        yield None
        return
    from sweep.execution.sync import make_tracker, mirror_run
    from sweep.tracking.background import BackgroundTracker
    from sweep.tracking.connection import ui_command

    tracker = BackgroundTracker(make_tracker(state.sweep))
    try:
        yield tracker
        if not tracker.tracker.disabled:
            _log.info("writing MLflow runs")
        tracker.submit(partial(mirror_run, tracker.tracker, state))
        tracker.close("FINISHED")
    except BaseException as error:
        tracker.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    if not tracker.tracker.disabled:
        _log.info(f"MLflow: {ui_command(tracker.tracker.uri)}")


def _pending_work(state: RunState) -> str:
    """What a run has to do, in words: checkpoints to import, members to train, candidates and models to evaluate."""
    n_imports = sum(1 for member in state.missing if member.file)
    n_trainings = len(state.missing) - n_imports
    parts = [f"importing {n_imports} checkpoints"] if n_imports else []
    parts += [f"{n_trainings} members to train"] if n_trainings or not n_imports else []
    parts += [f"{state.n_pending:,} candidates to evaluate"]
    parts += [f"{state.n_uninspected:,} models to inspect"] if state.n_uninspected else []
    return ", ".join(parts)
