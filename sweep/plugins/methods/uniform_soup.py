"""The plain average of weights."""

from __future__ import annotations

from sweep.core.weights import LinearCombination, Members

CITES = ("wortsman2022soups",)


def uniform_soup(members: Members) -> LinearCombination:
    """The mean of the members' weights (uniform soup, arXiv 2203.05482)."""
    return members.mean(0).as_subclass(LinearCombination)
