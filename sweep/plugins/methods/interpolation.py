"""The straight line between two members."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from sweep.core.weights import LinearCombination, TwoMembers

CITES = ("goodfellow2015qualitatively", "frankle2020linear")


def interpolation(members: TwoMembers, *, weight: Annotated[float, Ge(-1), Le(2)] = 0.5) -> LinearCombination:
    """(1 - weight) * first + weight * second: a point on the straight line through two members.

    Points outside 0 to 1 extrapolate; barriers and claims use 0 to 1.
    """
    first = members[0]
    second = members[1]
    return ((1 - weight) * first + weight * second).as_subclass(LinearCombination)
