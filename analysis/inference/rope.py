"""Posterior probabilities of an effect below, within and above its margin: a region of practical equivalence (ROPE)."""

from __future__ import annotations

import math

from scipy.special import stdtr

from analysis.inference.estimate import Estimate


def margin_probabilities(one: Estimate) -> dict[str, float]:
    """`p_below`, `p_within` and `p_above` of Student's t around an estimate: its posterior for the prior 1/variance.

    They sum to 1 (Benavoli et al. 2017), and are NaN without a margin or a standard error above 0.
    """
    if one.margin is None or not (one.se > 0 and one.df > 0):
        return named_probabilities(math.nan, math.nan)
    below, up_to = (float(stdtr(one.df, (end - one.estimate) / one.se)) for end in (-one.margin, one.margin))
    return named_probabilities(below, up_to)


def named_probabilities(below: float, up_to: float) -> dict[str, float]:
    """The three probabilities, from those below -margin and up to the margin."""
    return {"p_below": below, "p_within": up_to - below, "p_above": 1 - up_to}
