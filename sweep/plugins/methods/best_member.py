"""The best member of the subset: the baseline of the papers on soups."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sweep.core.weights import LinearCombination, Members

CITES = ("wortsman2022soups",)


def best_member(members: Members, score: Callable[[Tensor], float]) -> LinearCombination:
    """The member with the highest validation accuracy, unmerged: the baseline of arXiv 2203.05482.

    `score` returns the validation accuracy of weights (entries,); of equally good members, the first.
    """
    scores = [score(member) for member in members]
    return members[scores.index(max(scores))].as_subclass(LinearCombination)
