"""The straight line between two members."""

from __future__ import annotations

from sweep.core.weights import LinearCombination, Probability, TwoMembers

CITES = ("goodfellow2015qualitatively", "frankle2020linear")


def interpolation(members: TwoMembers, *, weight: Probability = 0.5) -> LinearCombination:
    """(1 - weight) * first + weight * second: a point on the straight line between two members."""
    first = members[0]
    second = members[1]
    return ((1 - weight) * first + weight * second).as_subclass(LinearCombination)
