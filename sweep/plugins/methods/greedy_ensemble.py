"""The published script's greedy ensemble, whose members a soup chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from sweep.core.weights import Heads, Members
from sweep.plugins.methods._greedy import greedy_average

CITES = ("wang2024rethinking",)


def greedy_ensemble(
    members: Members,
    score: Callable[[Tensor], float],
    logits: Tensor,
    features: Tensor,
    heads: Heads,
    *,
    space: Literal["logits", "features"] = "logits",
) -> Tensor:
    """The members that `greedy_indexed` accepts, averaged in logits, or in features with their mean head.

    They are chosen by how well their soup does, not their ensemble (`greedy_ens_devideLen`, arXiv 2411.09263).
    (members, examples, classes) -> (examples, classes).
    """
    return greedy_average(members, score, logits, features, heads, space)
