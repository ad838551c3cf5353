"""What of a sweep is in its run folder, and what is to do."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.plan import Member, Plan, Work, make_plan
from sweep.spec import Sweep
from sweep.store import RunFolder, StoreError, replace


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


def state_of(sweep: Sweep) -> State:
    """The plan against what is in the run folder. Raises ConfigError and StoreError."""
    from sweep.prepare import fingerprints

    folder = RunFolder(sweep.folder)
    if folder.exists:
        folder.info()
    plan = make_plan(sweep, fingerprints(sweep), planned_blocks(folder))
    splits, done = sweep.settings.splits, folder.done()
    blocks: dict[str, Work] = {}
    for name, candidates in plan.blocks.items():
        open_splits = ((c, tuple(split for split in splits if split not in done.get(c.id, ()))) for c in candidates)
        work = [(candidate, todo) for candidate, todo in open_splits if todo]
        if work:
            blocks[name] = work
    return State(plan, folder.statuses("members", "member_id"), folder.statuses("candidates", "candidate_id"), blocks)


def planned_blocks(folder: RunFolder) -> dict[str, str]:
    """candidate_id -> block of everything that was ever planned here."""
    file = folder.path / "plan.parquet"
    if not file.exists():
        return {}
    try:
        rows = pq.read_table(file, columns=["candidate_id", "block_id"])
    except (pa.ArrowException, OSError) as error:
        hint = "move it aside: the plan is made anew, and what is done stays done"
        raise StoreError(f"cannot read {file}: {error}", hint) from None
    return dict(zip(rows["candidate_id"].to_pylist(), rows["block_id"].to_pylist(), strict=True))


def freeze(folder: RunFolder, sweep: Sweep, plan: Plan) -> None:
    """Write the resolved sweep and the plan before the first task; what was planned before stays in it."""
    replace(folder.path / "sweep.yaml", sweep.to_yaml().encode())
    blocks = planned_blocks(folder) | {candidate.id: candidate.block for candidate in plan.candidates}
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table({"candidate_id": list(blocks), "block_id": list(blocks.values())}), sink, compression="zstd"
    )
    replace(folder.path / "plan.parquet", sink.getvalue().to_pybytes())
