"""What an evaluator does beside candidates: pairs of members, and models whose weights are inspected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sweep.core.protocol import CORRECT_PROTOCOL
from sweep.plan.candidates import Candidate, Factors
from sweep.plan.planner import Plan


class Model(NamedTuple):
    """A member by its position, or a merge by its candidate: in a block, it stands where a candidate does."""

    pool_id: str
    id: str
    subset: tuple[int, ...]
    merge: Candidate | None = None


Glances = Sequence[tuple[Model, Sequence[str]]]
"""Models, each with the tables that it has no rows in yet."""


def models_of(plan: Plan) -> Iterator[Model]:
    """The members, and the soups of any number of them, correct and unscaled: not the points between two or three."""
    for pool in plan.pools:
        yield from (Model(pool.id, member.id, (member.index,)) for member in pool.members)
    yield from (Model(each.pool_id, each.id, each.subset, each) for each in plan.candidates.where(_is_looked_into))


def _is_looked_into(factors: Factors) -> bool:
    method, plain = factors.method, factors.scaling.name == "none" and factors.protocol == CORRECT_PROTOCOL
    return plain and method.space == "weights" and method.name != "single" and method.entry.arity < 2


class Pair(NamedTuple):
    """Two members of a pool by their positions, the earlier first: in a block, it stands where a candidate does."""

    pool_id: str
    a: int
    b: int


Items = Sequence[tuple[Candidate | Pair | Model, Sequence[str]]]
"""What a block is made of: candidates with the splits asked for, models with the tables, and pairs with nothing."""
