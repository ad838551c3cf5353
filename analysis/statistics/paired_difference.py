"""One method against another on the same subsets."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.errors import AnalysisError, suggestion
from analysis.frames import (
    FIXED,
    MEAN_MEMBER,
    UNIT,
    chosen,
    over_pools,
    refuse_duplicates,
    refuse_mixture,
    require,
    usable,
    with_mean_member,
)

KEY = [*UNIT, "subset", *FIXED]


def paired_difference(
    candidates: pd.DataFrame,
    a: str = "uniform_soup",
    b: str = "logit_average",
    *,
    metric: str = "accuracy",
    by: Sequence[str] = ("population", "n_members"),
) -> pd.DataFrame:
    """Metric of `a` minus metric of `b` on identical subsets: mean in each pool, then t over pools, per group.

    `a` and `b` are labels (method with settings, alignment, repair, as `feature_average (head=first) + reset_bn`);
    `mean_member` stands for the mean of the subset's single members. In the unit of the metric, `p` against zero.
    A pair with a side that is not `ok` or lacks the metric is left out and counted in `warnings`; so is a subset that
    only one of them has. Raises AnalysisError for a missing column, duplicated rows, a label that no row has, or a
    group that mixes splits, protocols or scalings.
    """
    require(candidates, ["n_members", metric])
    rows = chosen(candidates, by)
    refuse_duplicates(rows, [*KEY, "label"])
    if MEAN_MEMBER in (a, b):
        rows = with_mean_member(rows)
    pairs = _side(rows, a, metric, by).merge(
        _side(rows, b, metric, []), "outer", on=KEY, suffixes=("_a", "_b"), indicator="sides"
    )
    pairs = pairs[pairs["sides"] != "right_only"] if b == MEAN_MEMBER else pairs
    pairs = _grouped(pairs, rows, by)
    refuse_mixture(pairs, by)
    reason = pairs["reason_a"].where(pairs["reason_a"].fillna("") != "", pairs["reason_b"])
    reason = reason.mask(pairs["sides"] != "both", "only one of the two methods has the subset")
    values = pairs.assign(value=pairs["value_a"] - pairs["value_b"], reason=reason)
    return over_pools(values, by, estimand=f"{metric}: {a} minus {b}", null=0.0, noun="pair")


def _side(rows: pd.DataFrame, label: str, metric: str, by: Sequence[str]) -> pd.DataFrame:
    """The rows of one label: key, groups, value and reason."""
    side = rows[rows["label"] == label]
    if side.empty:
        known = sorted(set(rows["label"]) | {MEAN_MEMBER})
        raise AnalysisError("rows", f"no rows of `{label}`", suggestion(label, known))
    side = side.assign(value=side[metric], reason=usable(side, metric))
    return side[[*KEY, *(name for name in by if name not in KEY), "value", "reason"]]


def _grouped(pairs: pd.DataFrame, rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The pairs with their groups filled in where only the second method has the subset."""
    own = [name for name in by if name not in KEY]
    groups = rows.drop_duplicates(["subset"]).set_index("subset")
    filled = {name: pairs[name].fillna(pairs["subset"].map(groups[name])) for name in own}
    return pairs.assign(**{name: column.astype(rows[name].dtype) for name, column in filled.items()})
