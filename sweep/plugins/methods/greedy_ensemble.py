"""The greedy ensemble of arXiv 2411.09263, whose members are selected by the score of their soup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from sweep.core.weights import Heads, Members
from sweep.plugins.methods._greedy import accepted_members, average

CITES = ("wang2024rethinking",)


def greedy_ensemble(  # noqa: PLR0913 - each is a need of its own
    members: Members,
    score: Callable[[Tensor], float],
    logits: Tensor,
    features: Tensor,
    heads: Heads,
    record: Callable[[Sequence[float]], None],
    *,
    space: Literal["logits", "features"] = "logits",
) -> Tensor:
    """Average of the logits of the members that `greedy_indexed` accepts, or of their features through their mean head.

    Members are selected by the accuracy of their soup, not of their ensemble (`greedy_ens_devideLen` in the script of
    arXiv 2411.09263).
    (members, examples, classes) -> (examples, classes).
    """
    accepted = accepted_members(members, score, record)
    return average(accepted, logits, features, heads, space)
