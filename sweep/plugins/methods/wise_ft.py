"""WiSE-FT."""

from __future__ import annotations

from sweep.core.weights import LinearCombination, OneMember, Probability, Weights

CITES = ("wortsman2022robust",)


def wise_ft(members: OneMember, base: Weights, *, weight: Probability = 0.5) -> LinearCombination:
    """(1 - weight) * base + weight * member: a model on the line to its start (WiSE-FT, arXiv 2109.01903)."""
    return ((1 - weight) * base + weight * members[0]).as_subclass(LinearCombination)
