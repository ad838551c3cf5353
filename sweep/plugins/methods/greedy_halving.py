"""The first greedy soup of the script of arXiv 2411.09263, which halves the soup at each step."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sweep.core.weights import LinearCombination, Members
from sweep.plugins.methods._greedy import halved

CITES = ("wang2024rethinking",)


def greedy_halving(members: Members, score: Callable[[Tensor], float]) -> LinearCombination:
    """Starts from the best member; for each member in order, keeps (soup + member) / 2 if it scores strictly higher.

    Later members get larger weights, and the best member is tried a second time (`greedy_soup` in the script of arXiv
    2411.09263). The method `greedy_soup` is that of Wortsman et al.
    """
    scores = [score(member) for member in members]
    best = max(scores)
    return halved(members[scores.index(best)], members, score, best).as_subclass(LinearCombination)
