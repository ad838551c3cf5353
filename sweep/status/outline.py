"""The summary of a plan, stored in plan.parquet, so that `sweep status` needs neither data sets nor torch."""

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
from sweep.status.counts import CandidateCounts, count_candidates, in_plan, read_plan_table
from sweep.status.inputs import RunInputs
from sweep.status.pending_pairs import failed_pools, measured_pairs
from sweep.storage.files import file_hash
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import OUTLINE

_VERSIONS = (TRAINING_VERSION, EVALUATION_VERSION)


class DatasetInfo(NamedTuple):
    """Shape of a data set, and the number of images in each split."""

    shape: tuple[int, int, int]  # classes, channels, size
    examples: Mapping[str, int]


class PopulationSummary(NamedTuple):
    """Architecture and data set of a population; settings in JSON."""

    name: str
    architecture: str
    architecture_settings: str
    dataset: str
    dataset_settings: str


class MemberSummary(NamedTuple):
    """The pool of a start or member, and the epochs of its training in this sweep."""

    pool_id: str
    epochs: int


class PlanSummary(BaseModel):
    """The settings, pools and members of a plan, without its candidates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str  # SHA-256 of the sweep.yaml that was planned
    versions: tuple[int, ...]  # TRAINING_VERSION and EVALUATION_VERSION; both enter the ids
    splits: tuple[str, ...]
    inside: bool  # whether models are inspected
    workers: int | None  # None: as many as the cluster has room for
    threads: int
    gpus_per_member: float
    gpus_per_worker: float
    populations: tuple[PopulationSummary, ...]
    facts: tuple[DatasetInfo, ...]  # of the data set of each population; empty if no cost was estimated
    pools: Mapping[str, int]  # pool id -> index of its population
    members: Mapping[str, MemberSummary]  # starts, then members, by id
    compared: Mapping[str, tuple[str, ...]] = {}  # pool id -> members that are compared; empty in earlier versions
    inputs: RunInputs | None = None  # None in the run folders of earlier versions

    @classmethod
    def from_plan(
        cls,
        sweep: Sweep,
        pools: Sequence[Pool],
        dataset_infos: Mapping[PluginConfig, DatasetInfo],
        inputs: RunInputs | None = None,
    ) -> PlanSummary:
        """Summarize a sweep with its pools; `dataset_infos` may be empty if no cost is to be estimated."""
        execution = sweep.execution
        index_of = {population.name: index for index, population in enumerate(sweep.populations)}
        populations = [
            PopulationSummary(
                name=population.name,
                architecture=population.architecture.name,
                architecture_settings=population.architecture.settings_json,
                dataset=population.first_dataset.name,
                dataset_settings=population.first_dataset.settings_json,
            )
            for population in sweep.populations
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
            facts=tuple(dataset_infos[population.first_dataset] for population in sweep.populations if dataset_infos),
            pools={pool.id: index_of[pool.population.name] for pool in pools},
            members={member.id: MemberSummary(member.pool_id, member.epochs) for member in unique_members(pools)},
            compared={pool.id: tuple(member.id for member in pool.members) for pool in pools if execution.member_pairs},
            inputs=inputs,
        )

    @property
    def dataset_infos(self) -> dict[tuple[str, str], DatasetInfo]:
        """Shape and size of each data set, by name and settings (JSON)."""
        keys = ((population.dataset, population.dataset_settings) for population in self.populations)
        return dict(zip(keys, self.facts, strict=False))

    def is_current(self, folder: RunFolder) -> bool:
        """Whether this is still the plan of the folder's sweep.yaml under the current versions."""
        try:
            return file_hash(folder.path / "sweep.yaml") == self.config and self.versions == _VERSIONS
        except OSError:
            return False


class RunStatus(NamedTuple):
    """The state of a run folder: its plan, its members and the counts of its candidates."""

    outline: PlanSummary
    members: Mapping[str, str]  # id -> status, of members and starts
    counts: CandidateCounts
    missing_pairs: Mapping[str, int]  # pool id -> pairs of members without a row


def read_status(folder: RunFolder) -> RunStatus | None:
    """Read the state of a run from its folder alone; None if the folder is not enough. Raises StoreError.

    Changed files of data sets or checkpoints go unnoticed.
    """
    outline = read_plan_summary(folder)
    if outline is None or outline.inside or not outline.is_current(folder) or (plan := read_plan_table(folder)) is None:
        return None
    rows = folder.read("candidates", ["candidate_id", "split", "status"])
    members = folder.member_statuses()
    counts = count_candidates(rows, in_plan(plan), outline.splits)
    return RunStatus(outline, members, counts, _count_missing_pairs(folder, outline, members))


def _count_missing_pairs(folder: RunFolder, outline: PlanSummary, statuses: Mapping[str, str]) -> dict[str, int]:
    """Pairs of members without a row, by pool, as `RunState.missing_pairs`."""
    present = measured_pairs(folder)
    failed = failed_pools(folder)
    usable = {
        pool: [member for member in members if statuses.get(member) != "failed"]
        for pool, members in outline.compared.items()
        if pool not in failed
    }
    return {pool: int(present.without_row(members).sum()) for pool, members in usable.items()}


def read_plan_summary(folder: RunFolder) -> PlanSummary | None:
    """Read the summary stored with the plan of a folder; None if it is missing or has another format."""
    try:
        metadata = pq.read_schema(folder.path / "plan.parquet").metadata or {}
        return PlanSummary.model_validate_json(metadata.get(OUTLINE, b""))
    except (pa.ArrowException, OSError, ValidationError):
        return None


def read_inputs(folder: RunFolder) -> RunInputs | None:
    """What the folder's sweep.yaml reads, as it was when the run planned it; None if that is not recorded."""
    outline = read_plan_summary(folder)
    return outline.inputs if outline is not None and outline.is_current(folder) else None
