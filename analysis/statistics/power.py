"""Number of pools that a comparison needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from scipy.special import chdtri

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import LEVEL, Estimate, spread
from analysis.inference.few import dominated
from analysis.inference.power import pools_for_equivalence, pools_wanted
from analysis.rows.pairing import group_pairs, pair_candidates, paired_differences

CITES = ("student1908mean",)


def power(  # noqa: PLR0913 - each is a setting of its own
    candidates: pd.DataFrame,
    a: str = "uniform_soup",
    b: str = "logit_average",
    *,
    metric: str = "accuracy",
    effect: float = 0.005,
    power: float = 0.8,
    by: Sequence[str] = ("population", "n_members"),
) -> pd.DataFrame:
    """Standard deviation between pools of the paired difference of `a` and `b`, and the number of pools needed.

    The interval is chi-square's, in the unit of the metric, as is `effect`, the smallest difference of interest.
    `pools_needed`: the fewest pools that detect a true difference of `effect` at .05 with probability `power`
    (two-sided t over pools); `pools_for_equivalence`: the fewest that find methods without a difference `equivalent`
    with the margin `effect`. Both assume that the estimate is true, and are missing with one pool and where no spread
    was seen. Use them to plan new pools before a run: adding pools until p is small produces false positives.
    Pairs, exclusions and errors are those of `paired_difference`.
    """
    if not effect > 0:
        raise AnalysisError("effect", f"{effect} is not above 0", "the smallest difference that matters")
    if not 0.05 < power < 1:
        raise AnalysisError("power", f"{power} is not between 0.05 and 1", "0.8 is usual")
    pairs = paired_differences(pair_candidates(candidates, a, b, metric, by), a, b, metric, by)
    estimand = f"standard deviation between pools of {metric}: {a} minus {b}"
    found = []
    for group in group_pairs(pairs, by):
        one = _deviation(group.values, estimand, group.warnings)
        deviation = one.estimate
        needed = {
            "pools_needed": pools_wanted(deviation, effect, power) if deviation > 0 else None,
            "pools_for_equivalence": pools_for_equivalence(deviation, effect, power) if deviation > 0 else None,
        }
        found.append({**group.key, "effect": effect, **needed, **asdict(one)})
    return pd.DataFrame(found).astype({"pools_needed": "Int64", "pools_for_equivalence": "Int64"})


def _deviation(values: np.ndarray, estimand: str, warnings: Sequence[str]) -> Estimate:
    """The standard deviation of one value per pool with chi-square's interval; infinite with fewer than two pools."""
    n = len(values)
    df = len(values) - 1.0
    if n < 2:
        what = "one pool: no spread to measure" if n else "no pool: nothing to estimate"
        about = (math.nan, math.nan, 0.0, -math.inf, math.inf)
        return Estimate(estimand, "pool", n, *about, None, None, None, "", (*warnings, what))
    deviation = spread(values)
    warnings = (*warnings, *(dominated(values) if deviation > 0 else ()))
    if deviation == 0:
        warnings = (*warnings, "no spread between these pools: no number of pools follows")
    low, high = (deviation * math.sqrt(df / float(chdtri(df, tail))) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    about = (deviation, deviation / math.sqrt(2 * df), df, low, high)
    return Estimate(estimand, "pool", n, *about, None, None, None, "", tuple(warnings))
