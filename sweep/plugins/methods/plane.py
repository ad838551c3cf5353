"""The plane through three members."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from sweep.core.weights import LinearCombination, ThreeMembers

CITES = ("garipov2018surfaces",)
EXEMPT = {"order": "at the default coordinates it is the first member"}

Coordinate = Annotated[float, Ge(-10), Le(10)]


def plane(members: ThreeMembers, *, a: Coordinate = 0.0, b: Coordinate = 0.0) -> LinearCombination:
    """(1 - a - b) * first + a * second + b * third: a point of the plane through three members.

    The members lie at (0, 0), (1, 0) and (0, 1), their uniform soup at (1/3, 1/3). Source: arXiv 1802.10026.
    """
    first = members[0]
    second = members[1]
    third = members[2]
    return ((1 - a - b) * first + a * second + b * third).as_subclass(LinearCombination)
