"""The published script's first greedy soup, which halves what it has."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sweep.core.weights import LinearCombination, Members
from sweep.plugins.methods._greedy import halved

CITES = ("wang2024rethinking",)


def greedy_halving(members: Members, score: Callable[[Tensor], float]) -> LinearCombination:
    """From the best member on, members in their order: (soup + member) / 2 is kept if it scores strictly higher.

    Later members weigh more, and the best one is tried again in its turn (`greedy_soup` in the script of arXiv
    2411.09263); `greedy_soup` is the one of Wortsman et al.
    """
    scores = [score(member) for member in members]
    best = max(scores)
    return halved(members[scores.index(best)], members, score, best).as_subclass(LinearCombination)
