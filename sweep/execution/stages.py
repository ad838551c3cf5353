"""The stages of a run: members are imported and trained, then pairs, candidates and models are evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sweep.storage.run_folder import failed_members

if TYPE_CHECKING:
    from sweep.core.choice import PluginConfig
    from sweep.core.dataset import Dataset
    from sweep.execution.handshake import Handshake
    from sweep.execution.invocation import StopRequest
    from sweep.execution.progress import Progress
    from sweep.plan.pools import Pool
    from sweep.plan.work import BlockWork
    from sweep.status.state import RunState
    from sweep.storage.writer import Writer
    from sweep.tracking.background import BackgroundTracker


@dataclass(frozen=True)
class RunContext:
    """What the stages of a run share. `info` is the content of run.json."""

    state: RunState
    datasets: Mapping[PluginConfig, Dataset]
    progress: Progress
    stopping: StopRequest
    tracker: BackgroundTracker | None
    info: dict[str, Any]
    handshake: Handshake


def import_members(context: RunContext) -> None:
    """Copy the external checkpoints that are missing into the run folder."""
    from sweep.training.members import import_member

    state = context.state
    for member in (member for member in state.missing if member.file):
        import_member(member, state.sweep.name, context.datasets[member.population.dataset], state.folder)


def train(context: RunContext) -> None:
    """Train the missing starts and members; those whose start failed are recorded as failed."""
    from sweep.training.members import record_failed_starts

    state = context.state
    missing = [member for member in state.missing if not member.file]
    able = record_failed_starts(missing, state.sweep.name, state.folder)
    if not able or context.stopping():
        return
    from sweep.execution.tune import TrialContext, train_members
    from sweep.plan.pools import training_groups

    context.progress.begin("models trained", len(able))
    groups = training_groups(state.pools, able)
    sweep = state.sweep
    by_id = {group.id: group for group in groups}
    shared = (dict(context.datasets), sweep.folder, sweep.execution, context.handshake)
    trials = TrialContext(sweep.name, by_id, *shared)
    train_members(groups, trials, context.progress.advance, context.stopping)


def evaluate(context: RunContext) -> None:
    """Evaluate, pool by pool, pairs without a row, candidates without one, and models that were not inspected."""
    from sweep.execution.progress import Stage
    from sweep.execution.scheduler import BlockScheduler
    from sweep.plan.work import MemberPairWork
    from sweep.status.estimate import LONG_PAIRS
    from sweep.storage.writer import open_writer

    state = context.state
    folder = state.folder
    failed = failed_members(folder)
    blocks = _pending_blocks(state, failed)
    if not blocks or context.stopping():
        return
    folder.retire_failed_tasks()  # their pairs and models are in these blocks again
    _tune_batches(context, (state.plan.pool_of[work.pool_id] for work in blocks.values()))
    n_pairs = sum(len(work) for work in blocks.values() if isinstance(work, MemberPairWork))
    beside = Stage("pairs compared", n_pairs) if n_pairs >= LONG_PAIRS else None
    context.progress.begin("candidates done", state.n_pending, beside)  # inspected models are not counted
    recorded = folder.read("tasks", ["task_id"])["task_id"]
    payload = partial(_pool_payload, context, failed)
    with open_writer(folder, recorded.to_pylist()) as writer:
        report = partial(_report_progress, context, writer)
        stop = (report, context.handshake, context.stopping.is_overdue)
        BlockScheduler(state.plan, payload, writer.put, *stop).run(blocks, context.datasets)
    report()


def _pending_blocks(state: RunState, failed: Mapping[str, str]) -> dict[str, BlockWork]:
    """The blocks that have no rows, in the order of their pools."""
    from sweep.status.pending import inspection_blocks
    from sweep.status.pending_pairs import measured_pairs, pair_blocks

    blocks: dict[str, BlockWork] = {}
    if state.sweep.execution.member_pairs:
        blocks |= pair_blocks(state.plan.pools, failed, measured_pairs(state.folder))
    blocks |= state.blocks
    blocks |= inspection_blocks(state.plan, state.folder, failed, state.failures)
    place = {pool.id: index for index, pool in enumerate(state.plan.pools)}
    return dict(sorted(blocks.items(), key=lambda block: place[block[1].pool_id]))


def _tune_batches(context: RunContext, pools: Iterable[Pool]) -> None:
    """With `eval_batch_size: auto`, find the fastest batch of each network; once, so that equal ids have equal bits."""
    from sweep.execution.worker import tune_batches
    from sweep.model.batching import AUTO, RECORDED

    execution = context.state.sweep.execution
    if execution.eval_batch_size == AUTO:
        known = context.info["evaluation"].setdefault(RECORDED, {})
        known |= tune_batches(pools, known, context.datasets, execution, context.stopping)
        context.state.folder.write_run_info(context.info)


def _pool_payload(context: RunContext, failed: Mapping[str, str], pool: Pool) -> tuple[object, ...]:
    """What a worker needs of a pool: its weights and batching."""
    from sweep.evaluation.pool_weights import load_pool_weights
    from sweep.model.batching import choose_batching, network_key

    execution = context.state.sweep.execution
    dataset = context.datasets[pool.population.dataset]
    weights = load_pool_weights(context.state.folder, pool, dataset, failed, execution.mmap_bytes)
    network = network_key(pool.population.architecture, dataset)
    return weights, choose_batching(execution.eval_batch_size, context.info, network)


def _report_progress(context: RunContext, writer: Writer) -> bool:
    """Show what was written since the last call, about a second ago; returns whether to stop."""
    context.progress.advance(*writer.take_counts())
    stage = context.progress.stage
    if context.tracker and stage:
        context.tracker.progress(stage.done, stage.failed, stage.total, stage.rate)
    return context.stopping()
