"""The greedy ensemble of arXiv 2411.09263 for scaled members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from sweep.core.weights import Heads, Members
from sweep.plugins.methods._greedy import greedy_average

CITES = ("wang2024rethinking",)


def greedy_ensemble_unscaled(
    unscaled: Members,
    score: Callable[[Tensor], float],
    logits: Tensor,
    features: Tensor,
    heads: Heads,
    *,
    space: Literal["logits", "features"] = "logits",
) -> Tensor:
    """`greedy_ensemble` of scaled members, selected by the soup of the members before scaling (arXiv 2411.09263).

    (members, examples, classes) -> (examples, classes).
    """
    return greedy_average(unscaled, score, logits, features, heads, space)
