"""The published script's second greedy soup, which divides by position."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sweep.core.weights import LinearCombination, Members
from sweep.plugins.methods._greedy import indexed

CITES = ("wang2024rethinking",)


def greedy_indexed(members: Members, score: Callable[[Tensor], float]) -> LinearCombination:
    """Members in their order, (soup * j + member_j) / (j + 1) with j the position, kept if strictly higher.

    The first is always taken. After a rejection the result is no mean of the accepted ones, since j counts the rejected
    too (`greedy_soup_devideLen` in the script of arXiv 2411.09263); `greedy_soup` is the one of Wortsman et al.
    """
    return indexed(members, score)[0].as_subclass(LinearCombination)
