"""What is told with a plan, so that a finished run says what it comes to without its data and without torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

import pyarrow as pa

from sweep.checkpoints import file_hash
from sweep.lineage import TRAINING_VERSION
from sweep.plan import EVALUATION_VERSION, Plan
from sweep.standing import OUTLINE, Standing, earlier, in_plan, standing
from sweep.store import RunFolder

_VERSIONS = [TRAINING_VERSION, EVALUATION_VERSION]


@dataclass(frozen=True)
class Outline:
    """A plan without its candidates."""

    config: str  # hash of the sweep.yaml that it is the plan of
    populations: list[str]
    pools: int
    members: list[str]  # ids of starts and members
    splits: list[str]
    inside: bool  # whether models are looked into
    versions: list[int]  # of training and evaluation: other ones make other ids

    @classmethod
    def of(cls, folder: RunFolder, plan: Plan) -> Outline:
        """Of a plan whose sweep.yaml is written."""
        starts = [pool.start for pool in plan.pools if pool.start]
        return cls(
            config=file_hash(folder.path / "sweep.yaml"),
            populations=[population.name for population in plan.sweep.populations],
            pools=len(plan.pools),
            members=[each.id for each in (*starts, *(member for pool in plan.pools for member in pool.members))],
            splits=list(plan.sweep.settings.splits),
            inside=bool(plan.sweep.settings.inside),
            versions=_VERSIONS,
        )

    def is_of(self, folder: RunFolder) -> bool:
        """Whether it would be made of the folder's sweep.yaml today."""
        try:
            return file_hash(folder.path / "sweep.yaml") == self.config and self.versions == _VERSIONS
        except OSError:
            return False

    def to_json(self) -> str:
        """As it stands in `plan.parquet`."""
        return json.dumps(asdict(self))


class Finished(NamedTuple):
    """A run with nothing left to do."""

    outline: Outline
    standing: Standing
    failed_members: int


def finished(folder: RunFolder) -> Finished | None:
    """What the run in a folder comes to; None where something is left to do, or more than the folder is needed to tell.

    Whether files of data or of models have changed since is not looked at. Raises StoreError.
    """
    plan = earlier(folder)
    outline = None if plan is None else _outline(plan)
    if plan is None or outline is None or outline.inside or not outline.is_of(folder):
        return None
    statuses = folder.statuses("members", "member_id")
    if not statuses.keys() >= set(outline.members):
        return None
    rows = folder.read("candidates", ["candidate_id", "split", "status"])
    counts = standing(rows, in_plan(plan), outline.splits)
    failed = sum(statuses[member] == "failed" for member in outline.members)
    return None if counts.new else Finished(outline, counts, failed)


def _outline(plan: pa.Table) -> Outline | None:
    """The outline that was written with a plan; None where there is none, or one of another version."""
    told = json.loads((plan.schema.metadata or {}).get(OUTLINE, "{}"))
    return Outline(**told) if told.keys() == Outline.__dataclass_fields__.keys() else None
