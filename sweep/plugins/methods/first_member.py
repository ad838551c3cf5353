"""The first member in the place of a merge: a control for scalings that depend on the whole subset."""

from __future__ import annotations

from sweep.core.weights import LinearCombination, Members

CITES = ()
EXEMPT = {"order": "it is the member in the first place"}


def first_member(members: Members) -> LinearCombination:
    """The first member of the subset, unmerged, but scaled like a member of a merge (`single` is scaled alone)."""
    return members[0].as_subclass(LinearCombination)
