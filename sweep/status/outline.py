"""A summary stored with the plan: `sweep status` needs neither the data nor torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from sweep.config.spec import Sweep
from sweep.core.choice import PluginConfig
from sweep.plan.planner import EVALUATION_VERSION
from sweep.plan.pools import TRAINING_VERSION, Pool, unique_members
from sweep.status.counts import OUTLINE, CandidateCounts, count_candidates, in_plan, read_plan_table
from sweep.storage.files import file_hash
from sweep.storage.run_folder import RunFolder

_VERSIONS = (TRAINING_VERSION, EVALUATION_VERSION)


class DatasetInfo(NamedTuple):
    """Shape of a data set, and images in each of its splits."""

    shape: tuple[int, int, int]  # classes, channels, size
    examples: Mapping[str, int]


class PopulationSummary(NamedTuple):
    """What tells a population's networks from others; settings in JSON."""

    name: str
    architecture: str
    architecture_settings: str
    dataset: str
    dataset_settings: str


class MemberSummary(NamedTuple):
    """Of a start or member its pool, and how long it is trained here."""

    pool_id: str
    epochs: int


class PlanSummary(BaseModel):
    """A plan without its candidates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str  # hash of the sweep.yaml that it is the plan of
    versions: tuple[int, ...]  # of training and evaluation: other ones make other ids
    splits: tuple[str, ...]
    inside: bool  # whether models are looked into
    workers: int | None  # None: as many as there are seats
    threads: int
    gpus_per_member: float
    gpus_per_worker: float
    populations: tuple[PopulationSummary, ...]
    facts: tuple[DatasetInfo, ...]  # of their data sets; empty where nobody estimates anything
    pools: Mapping[str, int]  # id -> place of its population
    members: Mapping[str, MemberSummary]  # starts, then members, by id

    @classmethod
    def from_plan(cls, sweep: Sweep, pools: Sequence[Pool], facts: Mapping[PluginConfig, DatasetInfo]) -> PlanSummary:
        """Of a sweep with its pools, and the facts of its data sets where they are known."""
        execution = sweep.execution
        place = {each.name: index for index, each in enumerate(sweep.populations)}
        populations = [
            PopulationSummary(
                name=each.name,
                architecture=each.architecture.name,
                architecture_settings=each.architecture.settings_json,
                dataset=each.dataset.name,
                dataset_settings=each.dataset.settings_json,
            )
            for each in sweep.populations
        ]
        return cls(
            config=hashlib.sha256(sweep.to_yaml().encode()).hexdigest(),
            versions=_VERSIONS,
            splits=sweep.settings.splits,
            inside=bool(sweep.settings.inspect),
            workers=None if execution.workers == "auto" else execution.workers,
            threads=execution.threads,
            gpus_per_member=execution.gpus_per_member,
            gpus_per_worker=execution.gpus_per_worker,
            populations=tuple(populations),
            facts=tuple(facts[each.dataset] for each in sweep.populations if facts),
            pools={pool.id: place[pool.population.name] for pool in pools},
            members={each.id: MemberSummary(each.pool_id, each.epochs) for each in unique_members(pools)},
        )

    @property
    def planned_blocks(self) -> dict[tuple[str, str], DatasetInfo]:
        """The facts of each data set, by name and settings."""
        named = ((each.dataset, each.dataset_settings) for each in self.populations)
        return dict(zip(named, self.facts, strict=False))

    def is_of(self, folder: RunFolder) -> bool:
        """Whether it would be made of the folder's sweep.yaml today."""
        try:
            return file_hash(folder.path / "sweep.yaml") == self.config and self.versions == _VERSIONS
        except OSError:
            return False


class RunStatus(NamedTuple):
    """How far a run is."""

    outline: PlanSummary
    members: Mapping[str, str]  # id -> status, of members and starts
    standing: CandidateCounts


def read_status(folder: RunFolder) -> RunStatus | None:
    """How far the run in a folder is; None where more than the folder is needed to tell. Raises StoreError.

    Whether files of data or of models have changed since is not looked at.
    """
    outline = outline_in(folder)
    if outline is None or outline.inside or not outline.is_of(folder) or (plan := read_plan_table(folder)) is None:
        return None
    rows = folder.read("candidates", ["candidate_id", "split", "status"])
    members = folder.member_statuses()
    return RunStatus(outline, members, count_candidates(rows, in_plan(plan), outline.splits))


def outline_in(folder: RunFolder) -> PlanSummary | None:
    """The outline that was written with a folder's plan; None where there is none, or one of another version."""
    try:
        metadata = pq.read_schema(folder.path / "plan.parquet").metadata or {}
        return PlanSummary.model_validate_json(metadata.get(OUTLINE, b""))
    except (pa.ArrowException, OSError, ValidationError):
        return None
