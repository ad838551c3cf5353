"""A soup against members of its norm."""

from __future__ import annotations

import pandas as pd

from analysis.inference.estimate import Question
from analysis.inference.finding import Finding
from analysis.rows.contrasts import estimate_over_cells
from analysis.rows.norms import norm_arms, over_sizes


def averaging_regularises(candidates: pd.DataFrame, *, margin: float = 0.005) -> Finding:
    """Does averaging weights help by making them smaller, as a regulariser does?

    What the norm of a soup is worth, whatever the direction: accuracy of `uniform_soup` minus that of the soup grown
    tensor by tensor to its members' norm, and of a member shrunk to the soup's norm minus that of the member, mean of
    the two on the same subsets; t over pools, populations as fixed. A soup is always smaller than its members, by
    sqrt((1 + (N - 1) cosine) / N) where these are of equal norm: that alone is arithmetic.
    """
    arms, told = norm_arms(candidates)
    worth = ((arms["soup"] - arms["grown"]) + (arms["shrunk"] - arms["member"])) / 2
    question = Question("accuracy at a soup's norm minus at its members' norm", "pool", 0.0, margin)
    return Finding(estimate_over_cells(over_sizes(arms, worth), question, told), "above", "norms")
