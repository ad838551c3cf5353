"""Difference between two methods on the same subsets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import Estimate, Question, stratified_mean, student, unit_mean
from analysis.inference.resampling import bootstrap_t, leave_one_member_out, sign_flip_p
from analysis.rows.log_odds import with_log_odds
from analysis.rows.pairing import (
    EXCHANGEABLE,
    Group,
    group_pairs,
    pair_candidates,
    paired_differences,
)
from sweep.core.text import did_you_mean

CITES = ("student1908mean", "schuirmann1987comparison", "satterthwaite1946approximate")

Over = Literal["pools", "members", "these cells", "new cells"]
Scale = Literal["difference", "log_odds"]
SCOPE = {
    "pools": "for new pools",
    "members": "for new members",
    "these cells": "for new pools of these cells",
    "new cells": "for new cells",
}


def paired_difference(  # noqa: PLR0913 - each is a setting of its own
    candidates: pd.DataFrame,
    a: str = "uniform_soup",
    b: str = "logit_average",
    *,
    metric: str = "accuracy",
    by: Sequence[str] = ("population", "n_members"),
    over: Over = "pools",
    margin: float | None = None,
    scale: Scale = "difference",
) -> pd.DataFrame:
    """Metric of `a` minus metric of `b` on identical subsets: mean per pool, then Student's t over pools, per group.

    `a` and `b` are labels (method with settings, alignment, repair, as `feature_average (head=first) + reset_bn`);
    `mean_member` stands for the mean of the subset's single members. Values and `margin` are in the unit of
    the metric; `p` tests against zero. A group with one pool has a jackknife over its members instead: its interval is
    for members of this pool.

    `over` is the target of the interval. Pools of a scratch or pretrained start are arbitrary groups of exchangeable
    members: `members` leaves out each member of all pools in turn (jackknife, members - 1 degrees of freedom), and is
    refused for other starts. With `these cells` or `new cells` each population is a cell, populations are not grouped,
    and cells have equal weight: `these cells` are fixed (stratified t, Satterthwaite's df), `new cells` has t over the
    cells' means. `improved` is the share of pools with a difference above 0; `sign_flip_p` the exact p of sign flips of
    the pools (of the cells for `new cells`), NaN for fewer than 6 or more than 32 of them, and for `these cells`.
    `bootstrap_low` and `bootstrap_high` are the bootstrap-t interval over the same units, from 6 of them: with skewed
    pools it covers more than Student's. All intervals are for these test images and this training split;
    `two_way_difference` takes images as sampled, too.

    `scale=log_odds` compares log((right + 1/2) / (wrong + 1/2)), a second scale near the ceiling, as is then `margin`.

    A pair with a row that is not `ok` or lacks the metric is left out and counted in `warnings`, and so is a subset
    that only one of the methods has. Raises AnalysisError for a missing column, duplicated rows, a label that no row
    has, a margin that is not above 0, or a group that mixes splits, protocols or scalings.
    """
    groups = _groups(candidates, (a, b, metric), by, over, scale)
    what = metric if scale == "difference" else "log-odds of accuracy"
    question = Question(f"{what}: {a} minus {b}, {SCOPE.get(over, over)}", "pool", 0.0, margin)
    return pd.DataFrame([_row(group, over, question) for group in groups])


def _groups(
    candidates: pd.DataFrame, what: tuple[str, str, str], by: Sequence[str], over: Over, scale: Scale
) -> list[Group]:
    """The groups of pairs of `what` (both labels and the metric)."""
    if over not in get_args(Over):
        raise AnalysisError("over", f"no `{over}`", did_you_mean(str(over), get_args(Over)))
    if scale not in get_args(Scale):
        raise AnalysisError("scale", f"no `{scale}`", did_you_mean(str(scale), get_args(Scale)))
    if over == "members":
        _refuse_common_starts(candidates)
    by = [name for name in by if over in ("pools", "members") or name != "population"]
    if scale == "difference":
        return group_pairs(paired_differences(pair_candidates(candidates, *what, by), *what, by), by)
    pairs = paired_differences(pair_candidates(with_log_odds(candidates), *what, by), *what, by)
    return group_pairs(pairs.drop(columns="level"), by)  # log-odds have no ceiling


def _row(group: Group, over: Over, question: Question) -> dict[str, object]:
    """The columns of one group."""
    one, cells = _estimate(group, over, question)
    signs = sign_flip_p(cells[0]) if over != "these cells" and len(cells[0]) > 1 else math.nan
    low, high = bootstrap_t(cells, [1 / len(cells)] * len(cells))
    ends = {"bootstrap_low": one.estimate - high * one.se, "bootstrap_high": one.estimate - low * one.se}
    improved = float((group.values > 0).mean()) if len(group.values) else math.nan
    return {**group.key, "sign_flip_p": signs, "improved": improved, **ends, **asdict(one)}


def _estimate(group: Group, over: Over, question: Question) -> tuple[Estimate, list[np.ndarray]]:
    """The estimate of one group, and its values per unit in each cell."""
    if over == "these cells":
        cells = [group.values[group.populations == name] for name in sorted(set(group.populations))]
        return stratified_mean(group.values, group.populations, question, group.warnings), cells or [group.values]
    if over == "new cells":
        means = pd.Series(group.values).groupby(group.populations, sort=True).mean().to_numpy()
        return unit_mean(means, replace(question, unit="cell"), group.warnings), [means]
    if over == "members" and len(group.values):
        return _over_members(group, question), [group.values[:0]]
    if len(group.values) == 1:
        return _one_pool(group, question), [group.values]
    return unit_mean(group.values, question, group.warnings), [group.values]


def _refuse_common_starts(candidates: pd.DataFrame) -> None:
    """Raises AnalysisError for pools whose members share a start of their own."""
    others = sorted(set(candidates["start"].dropna()) - set(EXCHANGEABLE))
    if others:
        hint = "filter the rows, or use over=pools"
        raise AnalysisError("over", f"pools of a start `{others[0]}` are no groups of exchangeable members", hint)


def _over_members(group: Group, question: Question) -> Estimate:
    """The mean over the subsets of all pools, by the jackknife over their members."""
    subsets = [str(subset).split("|") for subset in group.subsets]
    se, members = leave_one_member_out(group.differences, subsets)
    df = 0.0 if math.isnan(se) else members - 1.0
    about = replace(question, unit="member")
    return student(float(group.differences.mean()), se, df, members, about, group.warnings)


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
