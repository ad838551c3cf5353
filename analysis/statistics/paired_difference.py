"""Difference between two methods on the same subsets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Literal, get_args

import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import Estimate, Question, stratified_mean, student, unit_mean
from analysis.inference.resampling import leave_one_member_out, sign_flip_p
from analysis.rows.pairing import Group, group_pairs, pair_candidates, paired_differences
from sweep.core.text import did_you_mean

CITES = ("student1908mean", "schuirmann1987comparison", "satterthwaite1946approximate")

Over = Literal["pools", "these cells", "new cells"]
SCOPE = {"pools": "for new pools", "these cells": "for new pools of these cells", "new cells": "for new cells"}


def paired_difference(  # noqa: PLR0913 - each is a setting of its own
    candidates: pd.DataFrame,
    a: str = "uniform_soup",
    b: str = "logit_average",
    *,
    metric: str = "accuracy",
    by: Sequence[str] = ("population", "n_members"),
    over: Over = "pools",
    margin: float | None = None,
) -> pd.DataFrame:
    """Metric of `a` minus metric of `b` on identical subsets: mean per pool, then Student's t over pools, per group.

    `a` and `b` are labels (method with settings, alignment, repair, as `feature_average (head=first) + reset_bn`);
    `mean_member` stands for the mean of the subset's single members. Values and `margin` are in the unit of
    the metric; `p` tests against zero. A group with one pool has a jackknife over its members instead: its interval is
    for members of this pool (too wide for subsets of more than half of them, infinite if a member is in all subsets).

    `over` is the target of the interval. With `these cells` or `new cells` each population is a cell, populations are
    not grouped, and cells have equal weight: `these cells` are fixed (stratified t, Satterthwaite's df), `new cells`
    has t over the cells' means. `improved` is the share of pools with a difference above 0; `sign_flip_p` the exact p
    of sign flips of the pools (of the cells for `new cells`), NaN for fewer than 6 or more than 32 of them, and for
    `these cells`.

    A pair with a row that is not `ok` or lacks the metric is left out and counted in `warnings`, and so is a subset
    that only one of the methods has. Raises AnalysisError for a missing column, duplicated rows, a label that no row
    has, a margin that is not above 0, or a group that mixes splits, protocols or scalings.
    """
    if over not in get_args(Over):
        raise AnalysisError("over", f"no `{over}`", did_you_mean(str(over), get_args(Over)))
    question = Question(f"{metric}: {a} minus {b}, {SCOPE[over]}", "pool", 0.0, margin)
    by = [name for name in by if over == "pools" or name != "population"]
    pairs = paired_differences(pair_candidates(candidates, a, b, metric, by), a, b, metric, by)
    return pd.DataFrame([_row(group, over, question) for group in group_pairs(pairs, by)])


def _row(group: Group, over: Over, question: Question) -> dict[str, object]:
    """The columns of one group."""
    one, signs = _estimate(group, over, question)
    improved = float((group.values > 0).mean()) if len(group.values) else math.nan
    return {**group.key, "sign_flip_p": signs, "improved": improved, **asdict(one)}


def _estimate(group: Group, over: Over, question: Question) -> tuple[Estimate, float]:
    """The estimate of one group, and the p of its sign-flip test."""
    if over == "these cells":
        return stratified_mean(group.values, group.populations, question, group.warnings), math.nan
    if over == "new cells":
        means = pd.Series(group.values).groupby(group.populations, sort=True).mean().to_numpy()
        return unit_mean(means, replace(question, unit="cell"), group.warnings), sign_flip_p(means)
    if len(group.values) == 1:
        return _one_pool(group, question), math.nan
    return unit_mean(group.values, question, group.warnings), sign_flip_p(group.values)


def _one_pool(group: Group, question: Question) -> Estimate:
    """The estimate of a single pool, by the jackknife over its members."""
    subsets = [str(subset).split("|") for subset in group.subsets]
    se, members = leave_one_member_out(group.differences, subsets)
    estimate = float(group.values[0])
    if math.isnan(se):
        warnings = (*group.warnings, "one pool: a member is in every subset, no interval can be given")
        return student(estimate, se, 0.0, 1, question, warnings)
    warnings = (*group.warnings, "one pool: the interval is for members of this pool")
    if 2 * max(map(len, subsets)) > members:
        warnings = (*warnings, "subsets of more than half of the members: the interval is conservative")
    about = replace(question, unit="member", estimand=question.estimand.replace("new pools", "members of this pool"))
    return student(estimate, se, members - 1.0, members, about, warnings)
