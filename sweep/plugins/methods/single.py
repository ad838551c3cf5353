"""One member as it is: what every merge is compared with."""

from __future__ import annotations

from sweep.core.weights import LinearCombination, OneMember

CITES = ()


def single(members: OneMember) -> LinearCombination:
    """The member itself, unmerged."""
    return members[0].as_subclass(LinearCombination)
