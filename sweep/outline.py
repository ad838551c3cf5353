"""What is told with a plan, so that a run folder says how far it is without its data and without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from sweep.checkpoints import file_hash
from sweep.grid import Choice
from sweep.lineage import TRAINING_VERSION, Pool
from sweep.plan import EVALUATION_VERSION
from sweep.spec import Sweep
from sweep.standing import OUTLINE, Standing, earlier, in_plan, standing
from sweep.store import RunFolder

_VERSIONS = (TRAINING_VERSION, EVALUATION_VERSION)


class Facts(NamedTuple):
    """Shape of a data set, and images in each of its splits."""

    shape: tuple[int, int, int]  # classes, channels, size
    examples: Mapping[str, int]


class OfPopulation(NamedTuple):
    """What a population is to whoever estimates its time; settings in JSON."""

    name: str
    architecture: str
    architecture_settings: str
    dataset: str
    dataset_settings: str
    facts: Facts


class OfMember(NamedTuple):
    """Of a start or member its pool, and how long it is trained here."""

    pool_id: str
    epochs: int


class Outline(BaseModel):
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
    populations: tuple[OfPopulation, ...]
    pools: Mapping[str, int]  # id -> place of its population
    members: Mapping[str, OfMember]  # starts, then members, by id

    @classmethod
    def of(cls, sweep: Sweep, pools: Sequence[Pool], facts: Mapping[Choice, Facts]) -> Outline:
        """Of a sweep with its pools and the facts of its data sets."""
        execution, place = sweep.execution, {each.name: index for index, each in enumerate(sweep.populations)}
        planned = [pool.start for pool in pools if pool.start] + [each for pool in pools for each in pool.members]
        populations = [
            OfPopulation(
                name=each.name,
                architecture=each.architecture.name,
                architecture_settings=each.architecture.settings_json,
                dataset=each.dataset.name,
                dataset_settings=each.dataset.settings_json,
                facts=facts[each.dataset],
            )
            for each in sweep.populations
        ]
        return cls(
            config=hashlib.sha256(sweep.to_yaml().encode()).hexdigest(),
            versions=_VERSIONS,
            splits=sweep.settings.splits,
            inside=bool(sweep.settings.inside),
            workers=None if execution.workers == "auto" else execution.workers,
            threads=execution.threads,
            gpus_per_member=execution.gpus_per_member,
            gpus_per_worker=execution.gpus_per_worker,
            populations=tuple(populations),
            pools={pool.id: place[pool.population.name] for pool in pools},
            members={each.id: OfMember(each.pool_id, each.epochs) for each in planned},
        )

    def is_of(self, folder: RunFolder) -> bool:
        """Whether it would be made of the folder's sweep.yaml today."""
        try:
            return file_hash(folder.path / "sweep.yaml") == self.config and self.versions == _VERSIONS
        except OSError:
            return False


class Reading(NamedTuple):
    """How far a run is."""

    outline: Outline
    members: Mapping[str, str]  # id -> status, of members and starts
    standing: Standing


def reading(folder: RunFolder) -> Reading | None:
    """How far the run in a folder is; None where more than the folder is needed to tell. Raises StoreError.

    Whether files of data or of models have changed since is not looked at.
    """
    plan = earlier(folder)
    outline = None if plan is None else _outline(plan)
    if plan is None or outline is None or outline.inside or not outline.is_of(folder):
        return None
    rows = folder.read("candidates", ["candidate_id", "split", "status"])
    members = folder.statuses("members", "member_id")
    return Reading(outline, members, standing(rows, in_plan(plan), outline.splits))


def _outline(plan: pa.Table) -> Outline | None:
    """The outline that was written with a plan; None where there is none, or one of another version."""
    try:
        return Outline.model_validate_json((plan.schema.metadata or {}).get(OUTLINE, b""))
    except ValidationError:
        return None
