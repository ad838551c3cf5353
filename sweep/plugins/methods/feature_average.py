"""The ensemble in feature space."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from sweep.core.weights import Heads

CITES = ("wang2024rethinking",)


def feature_average(features: Tensor, heads: Heads, *, head: Literal["first", "average"] = "average") -> Tensor:
    """The mean of the members' features, passed through the first member's head or the mean head (arXiv 2411.09263).

    (members, examples, features) -> (examples, classes).
    """
    mean = features.mean(0)
    if head == "first":
        return mean @ heads.weight[0].T + heads.bias[0]
    return mean @ heads.weight.mean(0).T + heads.bias.mean(0)
