"""One run from plan to record: the members that are missing, then the candidates without a row, then MLflow."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sweep.config.spec import Sweep
from sweep.core.provenance import now, run_environment
from sweep.status.state import RunState, load_state, with_recorded_settings, write_plan_files
from sweep.storage.lock import stop_requested
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import SCHEMA_VERSION

if TYPE_CHECKING:
    from sweep.core.choice import PluginConfig
    from sweep.core.dataset import Dataset
    from sweep.execution.progress import Progress
    from sweep.plan.pools import Pool
    from sweep.plan.work import BlockWork
    from sweep.storage.writer import Writer
    from sweep.tracking.background import BackgroundTracker

_log = logging.getLogger(__name__)


def run(
    sweep: Sweep,
    progress: Progress | None = None,
    *,
    command: str = "sweep.run",
    overrides: Sequence[str] = (),
    retry: bool = False,
) -> RunState:
    """Carry out what is left of a sweep; the same call again continues it. `retry` does anew what failed.

    Raises ConfigError, StoreError or LaunchError before anything is computed where that is possible; KeyboardInterrupt
    after an interruption, with everything that was done written down.
    """
    if progress is None:
        from sweep.execution.progress import Progress

        with Progress(sweep.folder / "log.txt") as progress:
            return run(sweep, progress, command=command, overrides=overrides, retry=retry)
    folder = RunFolder(sweep.folder)
    state = load_state(with_recorded_settings(sweep))
    if not retry and not (state.missing or state.n_pending or state.n_uninspected) and _is_settled(folder, sweep):
        return state
    with folder.lock(command):
        if retry:
            _log.info(f"{folder.retire_failures()} parts of members and candidates are made anew")
        return RunDriver(state.reloaded(), progress).run(command, overrides)


def _is_settled(folder: RunFolder, sweep: Sweep) -> bool:
    """Whether the last call on the folder came to its end, with the same sweep."""
    info = folder.run_info()
    return info.get("sweep_id") == sweep.id and bool(info["invocations"][-1]["finished_at"])


class RunDriver:
    """One invocation on a run folder whose lock is held."""

    def __init__(self, state: RunState, progress: Progress) -> None:
        self.state = state
        self.sweep = state.sweep
        self.folder = state.folder
        self.progress = progress
        self.stopped = False
        self.datasets: Mapping[PluginConfig, Dataset] = {}
        self.tracker: BackgroundTracker | None = None
        self.mirrored = False
        self.info: dict[str, Any] = {}

    @property
    def stopping(self) -> bool:
        """Whether Ctrl-C was pressed, or `sweep stop` called."""
        if not self.stopped and stop_requested(self.folder.path):
            self.stopped = True
            _log.info("asked to stop: running blocks are finished first")
        return self.stopped

    def run(self, command: str, overrides: Sequence[str]) -> RunState:
        """Members, candidates, MLflow; the state at the end. Ray is started only if there is something to compute."""
        from sweep.status.preflight import check_networks, datasets

        self.datasets = datasets(self.sweep)
        state = self.state
        imported = [each.file for each in state.planned if each.file and state.members.get(each.id) == "ok"]
        check_networks(self.sweep, self.datasets, imported)
        about = {"schema_version": SCHEMA_VERSION, "sweep": self.sweep.name, "created_at": _time(), "invocations": []}
        self.folder.create(about)
        write_plan_files(self.folder, self.sweep, state.plan)
        with self._invocation(command, overrides), self._stoppable(), self._tracked(state):
            if state.missing or state.n_pending or state.n_uninspected or state.n_missing_pairs:
                self._compute(state)
            if self.stopping:
                raise KeyboardInterrupt
        return state.reloaded()

    def _compute(self, state: RunState) -> None:
        """What is missing, on Ray."""
        from sweep.execution.cluster import cluster

        for dataset in self.datasets.values():
            dataset.decode()  # here, once: all workers share what it gives
        _log.info(f"starting Ray: {_pending_work(state)}")
        with cluster(self.sweep.execution):
            self._train(state)
            if self.tracker:
                self.tracker.mirror_members(self.folder.path, self.sweep.execution.mlflow_models)
            self._evaluate(state)
            self.progress.end()
            if not self.stopping:
                self._mirror(state)  # while Ray shuts down

    @contextmanager
    def _invocation(self, command: str, overrides: Sequence[str]) -> Iterator[None]:
        """Note in run.json what was called, by what code, where, when, and that it came to its end."""
        execution = self.sweep.execution
        entry = {
            "started_at": _time(),
            "finished_at": None,
            "command": command,
            "overrides": list(overrides),
            "config": self.sweep.to_yaml(),
            "margin": self.sweep.settings.margin,
            **run_environment(),
        }
        info = self.folder.run_info()
        own = {"batch": execution.eval_batch_size, "threads": execution.threads}
        self.info = info | {
            "sweep_id": self.sweep.id,
            "metrics": list(self.sweep.metrics),
            "evaluation": info.get("evaluation", {}) | own,
            "invocations": [*info["invocations"], entry],
        }
        self.folder.write_run_info(self.info)
        yield
        entry["finished_at"] = _time()
        self.folder.write_run_info(self.info)

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Ctrl-C once lets running blocks finish, twice stops now."""

        def stop(number: int, frame: Any) -> None:
            if self.stopped:
                raise KeyboardInterrupt
            self.stopped = True
            _log.info("stopping once running blocks are done; press Ctrl-C again to stop now")

        try:
            before = signal.signal(signal.SIGINT, stop)
        except ValueError:  # signals arrive in the main thread only
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _train(self, state: RunState) -> None:
        """The missing starts, then the missing members of the starts that there are."""
        from sweep.execution.tune import train_members
        from sweep.plan.pools import training_groups
        from sweep.storage.run_folder import failed_members
        from sweep.training.members import import_member, record_failure

        for member in (member for member in state.missing if member.file):
            import_member(member, self.sweep.name, self.datasets[member.population.dataset], self.folder)
        for name, role in (("starts trained", "start"), ("members trained", "member")):
            failures = failed_members(self.folder)
            missing = [member for member in state.missing if member.role == role and not member.file]
            for member in missing:
                if member.start_id in failures:
                    record_failure(
                        member, self.sweep.name, self.folder, f"its start failed: {failures[str(member.start_id)]}"
                    )
            able = [member for member in missing if member.start_id not in failures]
            if able and not self.stopping:
                self.progress.begin(name, len(able))
                advance = self.progress.advance
                train_members(
                    training_groups(state.pools, able), self.sweep, self.datasets, advance, lambda: self.stopping
                )

    def _evaluate(self, state: RunState) -> None:
        """Pool by pool, the pairs that have no row, candidates without one, and models that were not looked into."""
        from sweep.execution.scheduler import BlockScheduler
        from sweep.status.pending import inspection_blocks, measured_pairs, pair_blocks
        from sweep.storage.compact import compact_if_large
        from sweep.storage.run_folder import failed_members
        from sweep.storage.writer import open_writer

        failed = failed_members(self.folder)
        place = {pool.id: index for index, pool in enumerate(state.plan.pools)}
        present = measured_pairs(self.folder)
        blocks: dict[str, BlockWork] = {**pair_blocks(state.plan.pools, failed, present), **state.blocks}
        blocks |= inspection_blocks(state.plan, self.folder, failed, state.failures)
        if blocks and not self.stopping:
            self.folder.retire_failed_tasks()  # their pairs and models are in these blocks again
            ordered = dict(sorted(blocks.items(), key=lambda block: place[block[1].pool_id]))
            self._measure(state.plan.pool_of[work.pool_id] for work in ordered.values())
            self.progress.begin(
                "candidates done", state.n_pending
            )  # pairs and models that are looked into are not counted
            recorded = self.folder.read("tasks", ["task_id"])["task_id"]
            payload = partial(self.pool_payload, failed)
            with open_writer(self.folder, recorded.to_pylist()) as writer:
                tick = partial(self.report_progress, writer)
                BlockScheduler(state.plan, payload, writer.put, tick).run(ordered, self.datasets)
            self.report_progress(writer)
            compact_if_large(self.folder)

    def _measure(self, pools: Iterable[Pool]) -> None:
        """Where that is asked for, find how each network is fastest; once, so that equal ids have equal bits."""
        from sweep.execution.worker import tune_batches
        from sweep.model.batching import AUTO, RECORDED

        if self.sweep.execution.eval_batch_size == AUTO:
            known = self.info["evaluation"].setdefault(RECORDED, {})
            known |= tune_batches(pools, known, self.datasets, self.sweep.execution, lambda: self.stopping)
            self.folder.write_run_info(self.info)

    def pool_payload(self, failed: Mapping[str, str], pool: Pool) -> tuple[object, ...]:
        """What workers take of a pool."""
        from sweep.evaluation.pool_weights import load_pool_weights
        from sweep.model.batching import choose_batching, network_key

        execution = self.sweep.execution
        dataset = self.datasets[pool.population.dataset]
        weights = load_pool_weights(self.folder, pool, dataset, failed, execution.mmap_bytes)
        return weights, choose_batching(
            execution.eval_batch_size, self.info, network_key(pool.population.architecture, dataset)
        )

    def report_progress(self, writer: Writer) -> bool:
        """Called about every second: tell what was written; whether to stop."""
        self.progress.advance(*writer.take_counts())
        stage = self.progress.stage
        if self.tracker and stage:
            self.tracker.progress(stage.done, stage.failed, stage.total, stage.rate)
        return self.stopping

    @contextmanager
    def _tracked(self, state: RunState) -> Iterator[None]:
        """Report the run to MLflow if configured, in a thread, and make MLflow equal to the tables at the end."""
        if not self.sweep.execution.mlflow:
            yield
            return
        from sweep.execution.sync import make_tracker
        from sweep.tracking.background import BackgroundTracker

        self.tracker = BackgroundTracker(make_tracker(self.sweep))
        try:
            yield
        except BaseException as error:
            self.tracker.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        self._mirror(state)
        self.tracker.close("FINISHED")

    def _mirror(self, state: RunState) -> None:
        """Begin to make MLflow equal to the tables, once and if configured."""
        from sweep.execution.sync import mirror_run

        if self.tracker and not self.mirrored:
            self.mirrored = True
            _log.info("writing MLflow runs")
            self.tracker.submit(partial(mirror_run, self.tracker.tracker, state))


def _pending_work(state: RunState) -> str:
    """What a run has to do, in words: checkpoints to import, members to train, candidates and models to evaluate."""
    n_imports = sum(1 for member in state.missing if member.file)
    n_trainings = len(state.missing) - n_imports
    parts = [f"importing {n_imports} checkpoints"] if n_imports else []
    parts += [f"{n_trainings} members to train"] if n_trainings or not n_imports else []
    parts += [f"{state.n_pending:,} candidates to evaluate"]
    parts += [f"{state.n_uninspected:,} models to inspect"] if state.n_uninspected else []
    return ", ".join(parts)


def _time() -> str:
    return now().isoformat(timespec="seconds") + "Z"
