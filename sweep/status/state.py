"""Compares a sweep with its run folder: what is done, what is missing."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from sweep.config.spec import Input, Sweep, input_key, metric_name
from sweep.core.choice import PluginConfig
from sweep.core.dataset import Dataset
from sweep.plan.candidates import PendingCandidates
from sweep.plan.planner import Plan, make_plan, plan_key
from sweep.plan.pools import Member, Pool, make_pools, unique_members
from sweep.plan.work import CandidateWork
from sweep.status.counts import (
    CandidateCounts,
    columns_of,
    count_candidates,
    current_plan,
    failures,
    hex_column,
    missing_rows,
    planned_blocks,
    read_plan_table,
    write_plan,
)
from sweep.status.inputs import (
    RunInputs,
    dataset_of_run,
    original_dataset,
    record_inputs,
    recorded_fingerprints,
)
from sweep.status.outline import read_inputs
from sweep.storage.files import StoreError, write_atomic
from sweep.storage.run_folder import RunFolder

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunState:
    """What a sweep's run folder holds and what is missing.

    If the folder holds the current plan, candidates are counted there; the plan is made only for its candidates.
    """

    sweep: Sweep
    pools: tuple[Pool, ...]
    folder: RunFolder
    members: Mapping[str, str]  # id -> status, of members and starts
    known: Mapping[Input, str]  # fingerprints of data sets and external checkpoints
    inputs: RunInputs | None = None  # what the run folder records of them, if the state comes from the folder alone

    @cached_property
    def plan(self) -> Plan:
        """The plan; candidates that were planned before keep their blocks."""
        return make_plan(self.sweep, self.known, planned_blocks(read_plan_table(self.folder)))

    @cached_property
    def counts(self) -> CandidateCounts:
        """The counts of candidates."""
        planned = current_plan(self.folder, plan_key(self.sweep, self.pools))
        planned = columns_of(self.plan) if planned is None else planned
        return count_candidates(self._rows, planned, self.sweep.settings.splits)

    @cached_property
    def pending(self) -> PendingCandidates:
        """The candidates without all rows, each with the splits that lack one."""
        splits = self.sweep.settings.splits
        candidates = self.plan.candidates
        without = missing_rows(self._rows, hex_column(candidates.ids), splits)
        is_open = np.flatnonzero(without.any(axis=1))
        return PendingCandidates(candidates.take(is_open), splits, without[is_open])

    def reloaded(self) -> RunState:
        """The state after the run folder has changed: its rows are read again, data sets and checkpoints are not."""
        return dataclasses.replace(self, members=self.folder.member_statuses())

    def dataset(self, config: PluginConfig, *, with_images: bool) -> Dataset:
        """A data set of the sweep. Raises DataError if it cannot be read, or is not that of the run any more.

        Unless its images are needed, a data set without its files has the recorded shape.
        """
        record = self.inputs.datasets[input_key(config)] if self.inputs else None
        return original_dataset(config, record) if with_images else dataset_of_run(config, record)

    @property
    def blocks(self) -> dict[str, CandidateWork]:
        """The pending candidates by block."""
        return {name: CandidateWork(pending) for name, pending in self.pending.by_block().items()}

    @cached_property
    def failures(self) -> frozenset[str]:
        """Ids of candidates with a failed row."""
        return frozenset(failures(self._rows).to_pylist())

    @cached_property
    def _rows(self) -> pa.Table:
        """Id, split and status of each row of candidates."""
        return self.folder.read("candidates", ["candidate_id", "split", "status"])

    @cached_property
    def n_uninspected(self) -> int:
        """Number of models that are not inspected yet."""
        return (
            _count_uninspected(self.plan, self.folder, self.members, self.failures)
            if self.sweep.settings.inspect
            else 0
        )

    @property
    def n_missing_pairs(self) -> int:
        """Number of the missing pairs."""
        return sum(self.missing_pairs.values())

    @cached_property
    def missing_pairs(self) -> dict[str, int]:
        """Pool id -> pairs of members without a row; neither failed members nor pools with a failed block count."""
        from sweep.status.pending_pairs import failed_pools, measured_pairs, missing_pairs

        if not self.sweep.execution.member_pairs:
            return {}

        failed = {identity for identity, status in self.members.items() if status == "failed"}
        repeated = failed_pools(self.folder)
        pools = [pool for pool in self.pools if pool.id not in repeated]
        found = missing_pairs(pools, failed, measured_pairs(self.folder))
        return {pool.id: len(pairs) for pool, pairs in found}

    @cached_property
    def planned(self) -> list[Member]:
        """Starts, then members, without repetition."""
        return unique_members(self.pools)

    @property
    def missing(self) -> list[Member]:
        """Starts and members that are not trained or imported yet."""
        return [member for member in self.planned if member.id not in self.members]

    @property
    def failed_members(self) -> int:
        """Number of starts and members of the plan without weights because they failed."""
        return sum(self.members.get(member.id) == "failed" for member in self.planned)

    @property
    def n_pending(self) -> int:
        """Number of candidates without all rows."""
        return self.counts.new

    @property
    def done(self) -> int:
        """Number of candidates with all rows."""
        return self.counts.planned - self.counts.new

    @property
    def failed(self) -> int:
        """Number of candidates of the plan with a failed row."""
        return self.counts.failed


def load_state(sweep: Sweep, absent: Collection[PluginConfig] = ()) -> RunState:
    """Compare the plan of a sweep with its run folder. Raises ConfigError and StoreError.

    Members of absent data sets have preliminary ids, so none of them counts as done.
    """
    from sweep.status.preflight import fingerprints

    folder = RunFolder(sweep.folder)
    if folder.exists:
        folder.run_info()
    known = fingerprints(sweep, absent)
    return RunState(sweep, make_pools(sweep, known), folder, folder.member_statuses(), known)


def load_run_state(sweep: Sweep) -> RunState:
    """The state of a sweep that was loaded from its run folder, with the ids of the run. Raises StoreError.

    Data sets and checkpoints are not read, but in the folders of earlier versions, which do not record them.
    """
    folder = RunFolder(sweep.folder)
    folder.run_info()
    inputs = read_inputs(folder)
    known = recorded_fingerprints(inputs, sweep) if inputs else None
    if known is None:
        sources = (source for population in sweep.populations for source in population.checkpoints)
        gone = next((source.file for source in sources if not source.file.exists()), None)
        if gone:
            what = f"{gone} is gone, and {folder.path} does not record what it was"
            raise StoreError(what, "put it back; the next `sweep run` of its configuration records it")
        return load_state(sweep)
    return RunState(sweep, make_pools(sweep, known), folder, folder.member_statuses(), known, inputs)


def _count_uninspected(plan: Plan, folder: RunFolder, members: Mapping[str, str], failures: Collection[str]) -> int:
    """Number of models without rows of their inspection."""
    from sweep.status.pending import inspection_blocks

    failed = {identity for identity, status in members.items() if status == "failed"}
    return sum(map(len, inspection_blocks(plan, folder, failed, failures).values()))


def with_recorded_settings(sweep: Sweep) -> Sweep:
    """The sweep with the batch size and threads recorded in its run folder, so that results stay comparable.

    Raises StoreError if the folder holds rows of other metrics.
    """
    folder = RunFolder(sweep.folder)
    if not folder.exists:
        return sweep
    info = folder.run_info()
    if info.get("metrics", sweep.metric_ids) != sweep.metric_ids:
        raise _other_metrics(folder, sweep, info["metrics"])
    evaluation = info.get("evaluation", {})
    names = {"batch": "eval_batch_size", "threads": "threads"}
    recorded = {
        names[key]: "auto" if value == "measured" else value for key, value in evaluation.items() if key in names
    }
    recorded = {key: value for key, value in recorded.items() if value != getattr(sweep.execution, key)}
    for key, value in recorded.items():
        _log.info(f"execution.{key}: using {value} as recorded in this run folder, so that results stay comparable")
    execution = sweep.execution.model_copy(update=recorded)
    return dataclasses.replace(sweep, settings=sweep.settings.model_copy(update={"execution": execution}))


def _other_metrics(folder: RunFolder, sweep: Sweep, recorded: Collection[str]) -> StoreError:
    """The error for a sweep with other metrics than its run folder; it names metrics whose meaning changed since."""
    names = [metric_name(identity) for identity in recorded]
    what = f"{folder.path} holds rows with the metrics {', '.join(names)}"
    for old, new in zip(recorded, names, strict=True):
        if old != new and old in sweep.metrics:
            what += f"; `{old}` means something else since, and its rows are read as `{new}`"
    hint = f"`metrics: [{', '.join(names)}]` continues it; give the sweep another name to measure others"
    return StoreError(what, hint)


def write_plan_files(
    folder: RunFolder, sweep: Sweep, plan: Plan, fingerprints: Mapping[Input, str] | None = None
) -> None:
    """Write the resolved sweep without secrets, and the plan with the record of what the sweep reads.

    Candidates of earlier plans stay in the file with `planned` false.
    """
    from sweep.status.dataset_info import summarize_plan

    write_atomic(folder.path / "sweep.yaml", sweep.to_yaml().encode())
    inputs = record_inputs(sweep, fingerprints or {})
    write_plan(folder, plan, summarize_plan(sweep, plan.pools, inputs).model_dump_json())
