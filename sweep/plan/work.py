"""What a block holds: candidates, pairs of members, or models whose weights are inspected."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from sweep.core.protocol import CORRECT_PROTOCOL
from sweep.plan.candidates import Candidate, CandidateGroup
from sweep.plan.planner import Plan

Item = TypeVar("Item")
Rows = TypeVar("Rows")
Rows_co = TypeVar("Rows_co", covariant=True)


class InspectedModel(NamedTuple):
    """A member, by its position in the pool, or a merge, by its candidate."""

    pool_id: str
    id: str
    subset: tuple[int, ...]
    merge: Candidate | None = None


class MemberPair(NamedTuple):
    """Two members of a pool by their positions, the earlier first."""

    pool_id: str
    a: int
    b: int


TILE = 64
"""Members along each side of a block of pairs: their distances are computed together, and their features kept."""


@dataclass(frozen=True)
class MemberPairs(Sequence[MemberPair]):
    """Pairs of one pool as an array of positions, shape (pairs, 2): a pool of 2,000 members has two million."""

    pool_id: str
    positions: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, index: int) -> MemberPair: ...

    @overload
    def __getitem__(self, index: slice) -> MemberPairs: ...

    def __getitem__(self, index: int | slice) -> MemberPair | MemberPairs:
        if isinstance(index, slice):
            return MemberPairs(self.pool_id, self.positions[index])
        a, b = self.positions[index].tolist()
        return MemberPair(self.pool_id, a, b)


CandidateItem = tuple[Candidate, Sequence[str]]
"""A candidate, with the splits that it has no row for yet."""
InspectionItem = tuple[InspectedModel, Sequence[str]]
"""A model, with the tables that it has no rows in yet."""


class WorkRunner(Protocol[Rows_co]):
    """Whatever makes rows of work: one method for each type of it."""

    def candidate_rows(self, items: Sequence[CandidateItem]) -> Rows_co:
        """The rows of candidates on their splits."""
        ...

    def pair_rows(self, pairs: Sequence[MemberPair]) -> Rows_co:
        """The rows of pairs of members."""
        ...

    def inspection_rows(self, items: Sequence[InspectionItem]) -> Rows_co:
        """The rows of models in their tables."""
        ...


@dataclass(frozen=True)
class Work(ABC, Generic[Item]):
    """Items of one type and one pool. A slice of work is work."""

    items: Sequence[Item]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, part: slice) -> Self:
        return replace(self, items=self.items[part])

    @property
    @abstractmethod
    def pool_id(self) -> str:
        """The pool of all items."""

    @abstractmethod
    def run(self, runner: WorkRunner[Rows]) -> Rows:
        """The rows that the runner makes of these items."""


class CandidateWork(Work[CandidateItem]):
    """Candidates to be evaluated."""

    @property
    def pool_id(self) -> str:
        """The pool of all candidates."""
        return self.items[0][0].pool_id

    def run(self, runner: WorkRunner[Rows]) -> Rows:
        """Evaluate the candidates."""
        return runner.candidate_rows(self.items)


class MemberPairWork(Work[MemberPair]):
    """Pairs of members to be compared."""

    @property
    def pool_id(self) -> str:
        """The pool of all pairs."""
        return self.items[0].pool_id

    def run(self, runner: WorkRunner[Rows]) -> Rows:
        """Compare the pairs."""
        return runner.pair_rows(self.items)


class InspectionWork(Work[InspectionItem]):
    """Models whose weights are to be inspected."""

    @property
    def pool_id(self) -> str:
        """The pool of all models."""
        return self.items[0][0].pool_id

    def run(self, runner: WorkRunner[Rows]) -> Rows:
        """Inspect the models."""
        return runner.inspection_rows(self.items)


BlockWork = CandidateWork | MemberPairWork | InspectionWork
"""The work of a block or of a part of one."""


def inspected_models(plan: Plan) -> Iterator[InspectedModel]:
    """The members, and merges of any number of them under the correct protocol and without scaling.

    Points between two or three members are left out.
    """
    for pool in plan.pools:
        yield from (InspectedModel(pool.id, member.id, (member.index,)) for member in pool.members)
    yield from (
        InspectedModel(each.pool_id, each.id, each.subset, each) for each in plan.candidates.where(_is_inspected)
    )


def _is_inspected(group: CandidateGroup) -> bool:
    method = group.method
    is_plain = group.scaling.name == "none" and group.protocol == CORRECT_PROTOCOL
    return is_plain and method.space == "weights" and method.name != "single" and method.plugin.arity < 2
