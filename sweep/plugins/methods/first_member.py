"""One member where a merge would be: a control for scalings that look at the whole subset."""

from __future__ import annotations

from sweep.core.weights import LinearCombination, Members

CITES = ()


def first_member(members: Members) -> LinearCombination:
    """The first member of the subset, unmerged: as `single`, but scaled as the members of a merge are."""
    return members[0].as_subclass(LinearCombination)
