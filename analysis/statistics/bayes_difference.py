"""Bayesian comparison of two methods, with a region of practical equivalence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import Estimate, Question, unit_mean
from analysis.inference.hierarchical import Posterior, cell_posterior
from analysis.inference.rope import margin_probabilities, named_probabilities
from analysis.rows.pairing import Group, group_pairs, pair_candidates, paired_differences
from analysis.statistics._scores import ALL
from sweep.core.text import format_count

CITES = ("student1908mean", "corani2015bayesian", "corani2017hierarchical", "gelman2006prior", "benavoli2017time")

CELL = "cell"
MEAN_OF_CELLS = "mean over cells"
NEW_CELL = "new cell"
TAIL = 0.025


def bayes_difference(  # noqa: PLR0913 - each is a setting of its own
    candidates: pd.DataFrame,
    a: str = "uniform_soup",
    b: str = "logit_average",
    *,
    metric: str = "accuracy",
    margin: float = 0.005,
    between: float | None = None,
    by: Sequence[str] = ("n_members",),
) -> pd.DataFrame:
    """Posterior probabilities that metric of `a` minus metric of `b` is below, within or above the margin (ROPE).

    Every population is a cell. `quantity` is `cell`: the posterior of the mean over new pools of one population, a
    Student t (prior 1/variance; it has the numbers of the t interval); and for two or more cells with two pools each
    `mean over cells` and `new cell`, of a hierarchical model whose cells differ by a normal distribution. `between` is
    the scale of the half-Cauchy prior of that distribution's standard deviation, in the unit of the metric; twice the
    margin by default. `p_below`, `p_within` and `p_above` are the probabilities of a difference below -margin, up to
    it, and above it; they sum to 1 and are NaN where there is one pool or no spread. `low` and `high` enclose 95% of
    the posterior; `estimate` is its median. They need no correction for several tests, but depend on the prior: report
    it, and decide at a level (.95 is usual) that was chosen before.
    Pairs, exclusions and errors are those of `paired_difference`.
    """
    if between is not None and not between > 0:
        raise AnalysisError("between", f"{between} is not above 0", "the scale of differences between cells")
    question = Question(f"{metric}: {a} minus {b}, for new pools", "pool", 0.0, margin)
    place = ["population", *(name for name in by if name != "population")]
    pairs = paired_differences(pair_candidates(candidates, a, b, metric, place), a, b, metric, place)
    cells = [(group, unit_mean(group.values, question, group.warnings)) for group in group_pairs(pairs, place)]
    found = [{**group.key, "quantity": CELL, **margin_probabilities(one), **asdict(one)} for group, one in cells]
    groups: dict[tuple[Any, ...], list[tuple[Group, Estimate]]] = {}
    for group, one in cells:
        groups.setdefault(tuple(group.key[name] for name in place[1:]), []).append((group, one))
    for of in groups.values():
        found += _together(of, f"{metric}: {a} minus {b}", margin, between or 2 * margin)
    return pd.DataFrame(found)


def _together(
    cells: list[tuple[Group, Estimate]], quantity: str, margin: float, between: float
) -> list[dict[str, Any]]:
    """The rows of the hierarchical model; none for fewer than two cells with an interval."""
    known = [one for _, one in cells if one.se > 0 and one.df > 0]
    if len(known) < 2:
        return []
    numbers = np.array([[one.estimate, one.se, one.df] for one in known])
    posterior = cell_posterior(numbers[:, 0], numbers[:, 1], numbers[:, 2], between)
    warnings = [f"prior of the spread between cells: half-Cauchy of scale {between:g}"]
    left_out = len(cells) - len(known)
    warnings += [f"{format_count(left_out, 'cell')} left out: one pool, or no spread"] if left_out else []
    warnings += ["two cells: the spread between cells rests on its prior"] if len(known) == 2 else []
    key = {**cells[0][0].key, "population": ALL}
    return [
        {**key, "quantity": name, **_row(posterior, name, f"{quantity}, for {what}", len(known), margin, warnings)}
        for name, what in ((MEAN_OF_CELLS, "the mean over cells like these"), (NEW_CELL, "a new cell"))
    ]


def _row(
    posterior: Posterior, name: str, estimand: str, n: int, margin: float, warnings: Sequence[str]
) -> dict[str, Any]:
    """The probabilities and the quantiles of one posterior."""
    new_cell = name == NEW_CELL
    below, up_to = (posterior.below(end, new_cell=new_cell) for end in (-margin, margin))
    low, middle, high = (posterior.quantile(share, new_cell=new_cell) for share in (TAIL, 0.5, 1 - TAIL))
    numbers = (n, middle, math.nan, math.nan, low, high, None, None, margin)
    return named_probabilities(below, up_to) | asdict(Estimate(estimand, "cell", *numbers, "", tuple(warnings)))
