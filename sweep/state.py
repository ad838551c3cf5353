"""What of a sweep is in its run folder, and what is to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sweep.files import StoreError, replace
from sweep.grid import Choice
from sweep.lineage import Member, Pool, pools_of
from sweep.plan import Plan, Work, make_plan, plan_key
from sweep.spec import Sweep
from sweep.standing import Standing, counted, earlier, standing, write_plan
from sweep.store import RunFolder


@dataclass(frozen=True)
class State:
    """What of a sweep is in its run folder, and what is to do.

    Where the folder holds this very plan, it is counted there, and made only when its candidates are asked for.
    """

    sweep: Sweep
    pools: tuple[Pool, ...]
    folder: RunFolder
    members: Mapping[str, str]  # id -> status, of members and starts
    known: Mapping[Choice | Path, str]  # what stands for the content of data sets and of models from elsewhere

    @cached_property
    def plan(self) -> Plan:
        """The plan; candidates that were planned before keep their blocks."""
        rows = earlier(self.folder)
        names = () if rows is None else (rows[name].to_pylist() for name in ("candidate_id", "block_id"))
        return make_plan(self.sweep, self.known, dict(zip(*names, strict=True)))

    @cached_property
    def standing(self) -> Standing:
        """The counts of candidates."""
        counts = standing(self.folder, plan_key(self.sweep, self.pools), self.sweep.settings.splits)
        return counts or counted(self.plan, self.blocks, self.statuses)

    @cached_property
    def statuses(self) -> dict[str, str]:
        """candidate_id -> status."""
        return self._done[1]

    @cached_property
    def _done(self) -> tuple[dict[str, set[str]], dict[str, str]]:
        return self.folder.done()

    @cached_property
    def blocks(self) -> dict[str, Work]:
        """What is to do of each block."""
        done, splits, blocks = self._done[0], self.sweep.settings.splits, dict[str, Work]()
        for name, candidates in self.plan.blocks.items():
            open_splits = ((c, tuple(split for split in splits if split not in done.get(c.id, ()))) for c in candidates)
            work = [(candidate, todo) for candidate, todo in open_splits if todo]
            if work:
                blocks[name] = work
        return blocks

    @cached_property
    def unseen(self) -> int:
        """Models that are still to be looked into."""
        return _unseen(self.plan, self.folder, self.members, self.statuses) if self.sweep.settings.inside else 0

    @property
    def planned(self) -> list[Member]:
        """Starts, then members."""
        starts = [pool.start for pool in self.pools if pool.start]
        return [*starts, *(member for pool in self.pools for member in pool.members)]

    @property
    def missing(self) -> list[Member]:
        """Starts and members that are still to be trained."""
        return [member for member in self.planned if member.id not in self.members]

    @property
    def failed_members(self) -> int:
        """Starts and members of the plan whose training failed."""
        return sum(self.members.get(member.id) == "failed" for member in self.planned)

    @property
    def new(self) -> int:
        """Candidates that are still to be evaluated."""
        return self.standing.new

    @property
    def done(self) -> int:
        """Candidates with all their rows."""
        return self.standing.planned - self.standing.new

    @property
    def failed(self) -> int:
        """Candidates of the plan whose row says failed."""
        return self.standing.failed


def state_of(sweep: Sweep, absent: Collection[Choice] = ()) -> State:
    """The plan against what is in the run folder. Raises ConfigError and StoreError.

    Members of data sets that are absent have other ids here than they will have, so none of them is found done.
    """
    from sweep.prepare import fingerprints

    folder = RunFolder(sweep.folder)
    if folder.exists:
        folder.info()
    known = fingerprints(sweep, absent)
    return State(sweep, pools_of(sweep, known), folder, folder.statuses("members", "member_id"), known)


def _unseen(plan: Plan, folder: RunFolder, members: Mapping[str, str], statuses: Mapping[str, str]) -> int:
    """How many models lack rows of what lies inside them."""
    from sweep.inside import glance_blocks

    failed = {identity for identity, status in members.items() if status == "failed"}
    return sum(map(len, glance_blocks(plan, folder, failed, statuses).values()))


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


def freeze(folder: RunFolder, sweep: Sweep, plan: Plan) -> None:
    """Write the resolved sweep and the plan before the first task; what was planned before stays in it, marked so."""
    replace(folder.path / "sweep.yaml", sweep.to_yaml().encode())
    write_plan(folder, plan)
