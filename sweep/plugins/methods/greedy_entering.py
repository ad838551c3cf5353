"""The first greedy soup of the script of arXiv 2411.09263, for scaled members."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sweep.core.weights import LinearCombination, Members
from sweep.plugins.methods._greedy import halved

CITES = ("wang2024rethinking",)


def greedy_entering(members: Members, unscaled: Members, score: Callable[[Tensor], float]) -> LinearCombination:
    """`greedy_halving` from the best unscaled member and its accuracy: only members that are added are scaled.

    If scaled members score worse, the result is the best unscaled member, so the method is robust by construction
    (`greedy_soup` in the script of arXiv 2411.09263, which for "first" also multiplies the running soup; not here).
    Without a scaling it equals `greedy_halving`.
    """
    scores = [score(member) for member in unscaled]
    best = max(scores)
    return halved(unscaled[scores.index(best)], members, score, best).as_subclass(LinearCombination)
