"""Difference between two methods, for new pools and new test examples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import Estimate, Question, student
from analysis.inference.few import dominated
from analysis.inference.resampling import bootstrap_t
from analysis.inference.two_way import Spreads, identical, rounded, spreads, target
from analysis.rows.examples import EXAMPLES, example_means, pair_terms, sorted_predictions
from analysis.rows.pairing import (
    Group,
    group_numbers,
    group_pairs,
    has_new_splits,
    pair_candidates,
    paired_differences,
)
from analysis.rows.select import UNIT, require

CITES = ("student1908mean", "schuirmann1987comparison", "miller2024errorbars")

UNKNOWN = "no predictions"


def two_way_difference(
    candidates: pd.DataFrame,
    predictions: pd.DataFrame,
    a: str = "uniform_soup",
    b: str = "logit_average",
    *,
    by: Sequence[str] = ("population", "n_members"),
    margin: float | None = None,
) -> pd.DataFrame:
    """Accuracy of `a` minus accuracy of `b`, as `paired_difference`, for new pools and new test examples.

    Pools share one test set, so more pools alone do not account for the choice of examples: with 2,000 examples, t over
    pools covers the effect on all examples in 78%. From the bits of `predictions`, each pool's mean difference on each
    example gives V = V_pools + V_examples - V_interaction, never below V_pools, and t with pools - 1 degrees of
    freedom. `se_pools` is the standard error over pools alone (for these examples), `se_examples` over examples alone
    (for these pools). Methods that agree on all n examples in every pool have the exact bound 1 - .05^(1/n) as their
    interval. `bootstrap_low` and `bootstrap_high` are the bootstrap-t interval over pools with the same standard error,
    from 6 pools. Values and `margin` are fractions. With one pool the interval is infinite. A pair with a row that is
    not `ok` or has no predictions is left out and counted in `warnings`. Raises AnalysisError as `paired_difference`,
    and where a group mixes data sets or numbers of examples.
    """
    require(candidates, (*EXAMPLES, "dataset"))
    known = sorted_predictions(predictions)
    rows = pair_candidates(candidates, a, b, "accuracy", by)
    pairs = paired_differences(rows, a, b, "accuracy", [*by, "dataset"])
    terms = pair_terms(rows, pairs, a, b, known)
    pairs = _with_reasons(pairs, terms).assign(group=group_numbers(pairs, by))
    used = terms.merge(pairs.loc[pairs["reason"] == "", ["group", *UNIT]], left_on="pair", right_index=True)
    _refuse_other_examples(pairs, used, known)
    scope = target(new_examples=True, new_splits=has_new_splits(rows))
    question = Question(f"accuracy: {a} minus {b}, {scope}", "pool", 0.0, margin)
    matrices = dict(_matrices(used, known))
    groups = enumerate(group_pairs(pairs, by))
    return pd.DataFrame([_row(group, matrices.get(number), question) for number, group in groups])


def _row(group: Group, matrix: np.ndarray | None, question: Question) -> dict[str, object]:
    """The columns of one group, from its differences of shape (pools, examples)."""
    one = Spreads() if matrix is None else spreads(matrix)
    pools = np.zeros(0) if matrix is None else rounded(matrix.mean(axis=1))
    estimate = _estimate(one, question, (*group.warnings, *dominated(pools)))
    if matrix is not None and len(matrix) > 1 and not rounded(matrix).any():
        estimate = identical(estimate, matrix.shape[1], 1.0, question)
    low, high = bootstrap_t([pools], [1.0])
    ends = {"bootstrap_low": estimate.estimate - high * one.se, "bootstrap_high": estimate.estimate - low * one.se}
    errors = {"se_pools": one.se_pools, "se_examples": one.se_examples}
    return {**group.key, **errors, **ends, **asdict(estimate)}


def _with_reasons(pairs: pd.DataFrame, terms: pd.DataFrame) -> pd.DataFrame:
    """The pairs, with a reason for those with a candidate without predictions."""
    missing = pairs.index.isin(terms.loc[terms["bits"] < 0, "pair"])
    return pairs.assign(reason=pairs["reason"].mask(missing, UNKNOWN))


def _refuse_other_examples(pairs: pd.DataFrame, used: pd.DataFrame, known: pd.DataFrame) -> None:
    """Raises AnalysisError for a group whose pools have different test examples, or fewer than two."""
    if pairs.groupby("group")["dataset"].nunique().gt(1).any():
        raise AnalysisError("rows", "a group mixes several data sets", "group by `dataset` or `population`")
    counts = used.assign(n=known["n_examples"].to_numpy()[used["bits"]]).groupby("group")["n"].agg(["min", "max"])
    mixed = counts[counts["min"] != counts["max"]]
    if len(mixed):
        low, high = mixed.iloc[0]
        what = f"a group mixes test sets of {low} and {high} examples"
        raise AnalysisError("predictions", what, "pools must share one test set; evaluate them alike, or filter")
    if (counts["min"] < 2).any():
        raise AnalysisError("predictions", "a test set of fewer than two examples", "filter the rows")


def _matrices(used: pd.DataFrame, known: pd.DataFrame) -> Iterator[tuple[int, np.ndarray]]:
    """Each group's number with the mean difference of its pools (in order of ids), shape (pools, examples)."""
    pool = used.groupby(["group", *UNIT], dropna=False, sort=True).ngroup()
    pairs = used.groupby(pool)["pair"].transform("nunique")
    used = used.assign(pool=pool, weight=used["weight"] / pairs)
    groups = used.drop_duplicates("pool").sort_values("pool")["group"]
    means = zip(groups, example_means(used, known), strict=True)
    for number, own in itertools.groupby(means, lambda one: int(one[0])):
        yield number, np.array([values for _, values in own])


def _estimate(found: Spreads, question: Question, warnings: Sequence[str]) -> Estimate:
    """The estimate of one group."""
    n = found.pools
    if n < 2:
        warnings = (*warnings, "one pool: no interval can be given" if n else "no pool: nothing to estimate")
    return student(found.estimate, found.se, max(n - 1.0, 0.0), n, question, warnings)
