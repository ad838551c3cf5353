"""The greedy soup of Wortsman et al."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from sweep.core.weights import LinearCombination, Members

CITES = ("wortsman2022soups",)


def greedy_soup(
    members: Members, score: Callable[[Tensor], float], *, ties: Literal["keep"] | None = None
) -> LinearCombination:
    """Adds members from best to worst, each only if the mean with it scores strictly higher (arXiv 2203.05482).

    `score` returns the validation accuracy of weights (entries,); members with equal scores keep their order. With
    `ties: keep`, a member is also added where the score stays the same: the paper's text; its authors' code compares
    strictly.
    """
    scores = [score(member) for member in members]
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    chosen = order[:1]
    best = scores[order[0]]
    for index in order[1:]:
        accuracy = score(members[sorted([*chosen, index])].mean(0))
        if accuracy > best or (ties == "keep" and accuracy == best):
            chosen = [*chosen, index]
            best = accuracy
    return members[sorted(chosen)].mean(0).as_subclass(LinearCombination)
