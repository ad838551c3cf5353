"""A soup against members with the same norm."""

from __future__ import annotations

import pandas as pd

from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues
from analysis.inference.two_way import target
from analysis.rows.norms import arm_examples, norm_arms, over_sizes

WEIGHTS = {"soup": 0.5, "grown": -0.5, "shrunk": 0.5, "member": -0.5}


def averaging_regularises(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.005
) -> Finding:
    """Does averaging weights help by making them smaller, as a regulariser does?

    Effect of a soup's smaller norm, independent of the direction of its weights: accuracy of `uniform_soup` minus that
    of the soup scaled tensor by tensor to its members' norm, and accuracy of a member scaled to the soup's norm minus
    that of the member; mean of both on the same subsets; t over pools, populations fixed. A soup of members of equal
    norm is smaller by sqrt((1 + (N - 1) cosine) / N): that alone is arithmetic.
    """
    arms, warnings = norm_arms(candidates)
    worth = ((arms["soup"] - arms["grown"]) + (arms["shrunk"] - arms["member"])) / 2
    examples = arm_examples(arms, WEIGHTS, predictions)
    scope = target(new_examples=examples is not None)
    question = Question(f"accuracy at a soup's norm minus at its members' norm, {scope}", "pool", 0.0, margin)
    return Finding(PoolValues(over_sizes(arms, worth), question, warnings, examples=examples), "above", "norms")
