"""The greedy ensemble of arXiv 2411.09263 for scaled members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from sweep.core.weights import Heads, Members
from sweep.plugins.methods._greedy import accepted_members, average

CITES = ("wang2024rethinking",)


def greedy_ensemble_unscaled(  # noqa: PLR0913 - each is a need of its own
    unscaled: Members,
    score: Callable[[Tensor], float],
    logits: Tensor,
    features: Tensor,
    heads: Heads,
    record: Callable[[Sequence[float]], None],
    *,
    space: Literal["logits", "features"] = "logits",
) -> Tensor:
    """`greedy_ensemble` of scaled members, selected by the soup of the members before scaling (arXiv 2411.09263).

    (members, examples, classes) -> (examples, classes).
    """
    accepted = accepted_members(unscaled, score, record)
    return average(accepted, logits, features, heads, space)
