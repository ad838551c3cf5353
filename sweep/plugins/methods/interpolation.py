"""The straight line between two members."""

from __future__ import annotations

from sweep.core.weights import LinearCombination, Probability, TwoMembers

CITES = ("goodfellow2015qualitatively", "frankle2020linear")


def interpolation(members: TwoMembers, *, weight: Probability = 0.5) -> LinearCombination:
    """(1 - weight) of the first member plus `weight` of the second: a point on the linear path between them."""
    first, second = members[0], members[1]
    return ((1 - weight) * first + weight * second).as_subclass(LinearCombination)
