"""The greedy ensemble of arXiv 2411.09263, whose members are selected by the score of their soup."""

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
    """Average of the logits of the members that `greedy_indexed` accepts, or of their features through their mean head.

    Members are selected by the accuracy of their soup, not of their ensemble (`greedy_ens_devideLen` in the script of
    arXiv 2411.09263).
    (members, examples, classes) -> (examples, classes).
    """
    return greedy_average(members, score, logits, features, heads, space)
