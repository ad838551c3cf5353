"""A soup against members with the same norm."""

from __future__ import annotations

import pandas as pd

from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues
from analysis.rows.norms import norm_arms, over_sizes


def averaging_regularises(candidates: pd.DataFrame, *, margin: float = 0.005) -> Finding:
    """Does averaging weights help by making them smaller, as a regulariser does?

    Effect of a soup's smaller norm, independent of the direction of its weights: accuracy of `uniform_soup` minus that
    of the soup scaled tensor by tensor to its members' norm, and accuracy of a member scaled to the soup's norm minus
    that of the member; mean of both on the same subsets, and each alone; t over pools, populations fixed. A soup of
    members of equal norm is smaller by sqrt((1 + (N - 1) cosine) / N): that alone is arithmetic.
    """
    arms, warnings = norm_arms(candidates)
    arms = arms.assign(on_soup=arms["soup"] - arms["grown"], on_member=arms["shrunk"] - arms["member"])
    question = Question("accuracy at a soup's norm minus at its members' norm", "pool", 0.0, margin)
    both = {"soup": over_sizes(arms, arms["on_soup"]), "member": over_sizes(arms, arms["on_member"])}
    parts = {name: PoolValues(frame, question, warnings) for name, frame in both.items()}
    mean = over_sizes(arms, (arms["on_soup"] + arms["on_member"]) / 2)
    return Finding(PoolValues(mean, question, warnings), "above", "norms", parts=parts)
