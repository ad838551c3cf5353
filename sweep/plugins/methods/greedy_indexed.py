"""The second greedy soup of the script of arXiv 2411.09263, which divides by position."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sweep.core.weights import LinearCombination, Members
from sweep.plugins.methods._greedy import indexed

CITES = ("wang2024rethinking",)


def greedy_indexed(members: Members, score: Callable[[Tensor], float]) -> LinearCombination:
    """Starts from the first member; keeps (soup * j + member_j) / (j + 1), j the position, if it scores higher.

    After a rejection the soup is no longer the mean of the accepted members, since j counts rejected members too
    (`greedy_soup_devideLen` in the script of arXiv 2411.09263). The method `greedy_soup` is that of Wortsman et al.
    """
    return indexed(members, score)[0].as_subclass(LinearCombination)
