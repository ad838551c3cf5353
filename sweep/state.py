"""What of a sweep is in its run folder, and what is to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.files import StoreError, replace
from sweep.grid import Choice
from sweep.lineage import Member
from sweep.plan import Plan, Work, make_plan
from sweep.spec import Sweep
from sweep.store import RunFolder


@dataclass(frozen=True)
class State:
    """What of a plan is in the run folder, and what is to do."""

    plan: Plan
    members: dict[str, str]  # id -> status, of members and starts
    statuses: dict[str, str]  # candidate_id -> status
    blocks: dict[str, Work]  # what is to do of each block

    @property
    def missing(self) -> list[Member]:
        """Starts and members that are still to be trained."""
        return [member for member in [*self.plan.starts, *self.plan.members] if member.id not in self.members]

    @property
    def failed_members(self) -> int:
        """Starts and members of the plan whose training failed."""
        planned = [*self.plan.starts, *self.plan.members]
        return sum(self.members.get(member.id) == "failed" for member in planned)

    @property
    def new(self) -> int:
        """Candidates that are still to be evaluated."""
        return sum(len(work) for work in self.blocks.values())

    @property
    def done(self) -> int:
        """Candidates with all their rows."""
        return len(self.plan.candidates) - self.new

    @property
    def failed(self) -> int:
        """Candidates of the plan whose row says failed."""
        return sum(self.statuses.get(candidate.id) == "failed" for candidate in self.plan.candidates)


def state_of(sweep: Sweep, absent: Collection[Choice] = ()) -> State:
    """The plan against what is in the run folder. Raises ConfigError and StoreError.

    Members of data sets that are absent have other ids here than they will have, so none of them is found done.
    """
    from sweep.prepare import fingerprints

    folder = RunFolder(sweep.folder)
    if folder.exists:
        folder.info()
    plan = make_plan(sweep, fingerprints(sweep, absent), planned_blocks(folder))
    done, statuses = folder.done()
    splits = sweep.settings.splits
    blocks: dict[str, Work] = {}
    for name, candidates in plan.blocks.items():
        open_splits = ((c, tuple(split for split in splits if split not in done.get(c.id, ()))) for c in candidates)
        work = [(candidate, todo) for candidate, todo in open_splits if todo]
        if work:
            blocks[name] = work
    return State(plan, folder.statuses("members", "member_id"), statuses, blocks)


def as_begun(sweep: Sweep, say: Callable[[str], None]) -> Sweep:
    """The sweep with the batch and threads that its run folder was begun with, so that equal ids have equal bits.

    Raises StoreError where the folder holds rows of other metrics.
    """
    folder = RunFolder(sweep.folder)
    if not folder.exists:
        return sweep
    info = folder.info()
    if info.get("metrics", list(sweep.metrics)) != list(sweep.metrics):
        what = f"{folder.path} holds rows with the metrics {', '.join(info['metrics'])}"
        raise StoreError(what, "give the sweep another name to measure others")
    begun = {key: value for key, value in info.get("evaluation", {}).items() if getattr(sweep.execution, key) != value}
    for key, value in begun.items():
        say(f"execution.{key} stays {value}, as this run was begun with, so that its numbers stay comparable")
    execution = sweep.execution.model_copy(update=begun)
    return dataclasses.replace(sweep, settings=sweep.settings.model_copy(update={"execution": execution}))


def planned_blocks(folder: RunFolder) -> dict[str, str]:
    """candidate_id -> block of everything that was ever planned here."""
    return {candidate: block for candidate, block, _ in _earlier(folder)}


def _earlier(folder: RunFolder) -> list[tuple[str, str, str]]:
    """(candidate_id, block_id, pool_id) of everything that was ever planned here. Raises StoreError."""
    file = folder.path / "plan.parquet"
    if not file.exists():
        return []
    try:
        rows = pq.read_table(file, columns=["candidate_id", "block_id", "pool_id"])
    except (pa.ArrowException, OSError) as error:
        hint = "move it aside: the plan is made anew, and what is done stays done"
        raise StoreError(f"cannot read {file}: {error}", hint) from None
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def freeze(folder: RunFolder, sweep: Sweep, plan: Plan) -> None:
    """Write the resolved sweep and the plan before the first task; what was planned before stays in it, marked so."""
    replace(folder.path / "sweep.yaml", sweep.to_yaml().encode())
    current = {candidate.id for candidate in plan.candidates}
    before = [(*row, False) for row in _earlier(folder) if row[0] not in current]
    rows = [(candidate.id, candidate.block, candidate.pool_id, True) for candidate in plan.candidates] + before
    names = ("candidate_id", "block_id", "pool_id", "planned")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table([list(column) for column in zip(*rows, strict=True)], names), sink, compression="zstd")
    replace(folder.path / "plan.parquet", sink.getvalue().to_pybytes())
