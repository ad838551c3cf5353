"""Average ranks of methods, with Friedman's test and the differences between all pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import Question, unit_mean
from analysis.inference.rank_tests import block_ranks, critical_difference, rank_test
from analysis.statistics._scores import Scores, scores
from sweep.core.text import did_you_mean

CITES = (
    "friedman1937ranks",
    "iman1980approximations",
    "nemenyi1963distribution",
    "conover1979multiple",
    "demsar2006statistical",
)

Over = Literal["pools", "cells"]
AVERAGE = "average rank"
DIFFERENCE = "difference of ranks"


def ranks(
    candidates: pd.DataFrame,
    *,
    metric: str = "accuracy",
    labels: Sequence[str] = (),
    over: Over = "pools",
) -> pd.DataFrame:
    """Average rank of each method, 1 for the best, and the difference of average ranks of each pair of methods.

    With `over=pools` methods are ranked within every pool, one population at a time; with `over=cells` within every
    population (mean over its pools), all populations together. A pool's score is its mean over the subsets that all
    methods have. Methods are `labels`, or the merges that share the most subsets, and the mean member. `quantity` is
    `average rank` of `label`, or `difference of ranks` of `label` minus `versus`; intervals are Student's t over pools
    or cells. `friedman_p` tests that all methods are equal (Iman and Davenport's F of Friedman's test, tie-corrected);
    `critical_difference` is Nemenyi's at .05, `nemenyi_p` and `conover_p` are for the family of all pairs. Look at
    pairs only where `friedman_p` is small. Ranks say which is better more often, not by how much.
    Rows that are not `ok` or lack the metric are left out with their subset and counted in `warnings`. Raises
    AnalysisError for a missing column, duplicated rows, a label that no row has, and fewer than two methods.
    """
    if over not in get_args(Over):
        raise AnalysisError("over", f"no `{over}`", did_you_mean(str(over), get_args(Over)))
    if len(labels) == 1:
        raise AnalysisError("labels", "expected two or more methods, got one", "leave it empty for all")
    found = scores(candidates, metric, labels, together=over == "cells")
    return pd.DataFrame([row for one in found for row in _rows(one, over, metric)])


def _rows(found: Scores, over: Over, metric: str) -> Iterator[dict[str, Any]]:
    """The average ranks, best first, then all pairs."""
    blocks = _cell_means(found) if over == "cells" else found.values
    own = block_ranks(blocks) if len(blocks) else blocks
    n, k = own.shape
    test = rank_test(own)
    unit = over.removesuffix("s")
    order = np.lexsort((found.labels, own.sum(axis=0)))
    about = {"population": found.population, "friedman_chi2": test.chi2, "friedman_p": test.p}
    about["critical_difference"] = critical_difference(n, k) if n > 1 else math.nan
    for one in order:
        row = unit_mean(own[:, one], Question(f"average rank by {metric}, for new {over}", unit), found.warnings)
        none = {"nemenyi_p": math.nan, "conover_p": math.nan}
        yield {**about, "quantity": AVERAGE, "label": found.labels[one], "versus": "", **none, **asdict(row)}
    for one, other in itertools.combinations(order, 2):
        question = Question(f"difference of average ranks by {metric}, for new {over}", unit)
        row = unit_mean(own[:, one] - own[:, other], question, found.warnings)
        p = {"nemenyi_p": test.nemenyi[one, other], "conover_p": test.conover[one, other]}
        pair = {"label": found.labels[one], "versus": found.labels[other]}
        yield {**about, "quantity": DIFFERENCE, **pair, **p, **asdict(row)}


def _cell_means(found: Scores) -> np.ndarray:
    """The mean over pools of each population, (cells, methods)."""
    names = sorted(set(found.populations))
    means = [found.values[found.populations == name].mean(axis=0) for name in names]
    return np.array(means).reshape(-1, len(found.labels))
