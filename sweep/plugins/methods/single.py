"""One member, unmerged: the baseline of every merge."""

from __future__ import annotations

from sweep.core.weights import LinearCombination, OneMember

CITES = ()


def single(members: OneMember) -> LinearCombination:
    """One member, unmerged: the baseline of every merge."""
    return members[0].as_subclass(LinearCombination)
