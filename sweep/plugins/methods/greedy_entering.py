"""The published script's first greedy soup as it meets magnified members."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sweep.core.weights import LinearCombination, Members
from sweep.plugins.methods._greedy import halved

CITES = ("wang2024rethinking",)


def greedy_entering(members: Members, unscaled: Members, score: Callable[[Tensor], float]) -> LinearCombination:
    """As `greedy_halving`, but its start and the accuracy to beat are unscaled: members are scaled as they enter.

    Where magnified members score worse, what comes out is the best unscaled member: robust by construction
    (`greedy_soup` in the script of arXiv 2411.09263, which for "first" also multiplies the running soup; not here).
    Without a scaling it is `greedy_halving`.
    """
    scores = [score(member) for member in unscaled]
    best = max(scores)
    return halved(unscaled[scores.index(best)], members, score, best).as_subclass(LinearCombination)
