"""A soup against members with the same norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues
from analysis.inference.two_way import target
from analysis.rows.norms import arm_examples, norm_arms, over_sizes

ARMS = {"soup": {"soup": 1.0, "grown": -1.0}, "member": {"shrunk": 1.0, "member": -1.0}}
"""What is scaled -> the weight of each accuracy in the effect of the smaller norm."""


def averaging_regularises(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.005
) -> Finding:
    """Does averaging weights help by making them smaller, as a regulariser does?

    Effect of a soup's smaller norm, independent of the direction of its weights: accuracy of `uniform_soup` minus that
    of the soup scaled tensor by tensor to its members' norm, and accuracy of a member scaled to the soup's norm minus
    that of the member; mean of both on the same subsets, and each alone; t over pools, populations fixed. A soup of
    members of equal norm is smaller by sqrt((1 + (N - 1) cosine) / N): that alone is arithmetic.
    """
    arms, warnings = norm_arms(candidates)
    parts = {name: _arm(arms, weights, predictions, margin, warnings) for name, weights in ARMS.items()}
    mean = {arm: weight / 2 for weights in ARMS.values() for arm, weight in weights.items()}
    return Finding(_arm(arms, mean, predictions, margin, warnings), "above", "norms", parts=parts)


def _arm(
    arms: pd.DataFrame,
    weights: Mapping[str, float],
    predictions: pd.DataFrame | None,
    margin: float,
    warnings: Sequence[str],
) -> PoolValues:
    """The weighted sum of the accuracies of some arms, per pool."""
    value = sum((weight * arms[arm] for arm, weight in weights.items()), pd.Series(0.0, arms.index))
    examples = arm_examples(arms, weights, predictions)
    scope = target(new_examples=examples is not None)
    question = Question(f"accuracy at a soup's norm minus at its members' norm, {scope}", "pool", 0.0, margin)
    return PoolValues(over_sizes(arms, value), question, warnings, examples=examples)
