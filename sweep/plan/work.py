"""What an evaluator does beside candidates: pairs of members, and models whose weights are inspected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sweep.core.protocol import CORRECT_PROTOCOL
from sweep.plan.candidates import Candidate, CandidateGroup
from sweep.plan.planner import Plan


class InspectedModel(NamedTuple):
    """A member by its position, or a merge by its candidate: in a block, it stands where a candidate does."""

    pool_id: str
    id: str
    subset: tuple[int, ...]
    merge: Candidate | None = None


InspectionItems = Sequence[tuple[InspectedModel, Sequence[str]]]
"""Models, each with the tables that it has no rows in yet."""


def inspected_models(plan: Plan) -> Iterator[InspectedModel]:
    """The members, and the soups of any number of them, correct and unscaled: not the points between two or three."""
    for pool in plan.pools:
        yield from (InspectedModel(pool.id, member.id, (member.index,)) for member in pool.members)
    yield from (
        InspectedModel(each.pool_id, each.id, each.subset, each) for each in plan.candidates.where(_is_inspected)
    )


def _is_inspected(factors: CandidateGroup) -> bool:
    method, plain = factors.method, factors.scaling.name == "none" and factors.protocol == CORRECT_PROTOCOL
    return plain and method.space == "weights" and method.name != "single" and method.plugin.arity < 2


class MemberPair(NamedTuple):
    """Two members of a pool by their positions, the earlier first: in a block, it stands where a candidate does."""

    pool_id: str
    a: int
    b: int


WorkItems = Sequence[tuple[Candidate | MemberPair | InspectedModel, Sequence[str]]]
"""What a block is made of: candidates with the splits asked for, models with the tables, and pairs with nothing."""
