"""Estimates over pools, and contrasts over fixed populations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.inference.estimate import Question, pool_mean
from analysis.inference.finding import PoolValues
from analysis.inference.two_way import Examples, target
from analysis.rows.examples import pool_examples
from analysis.rows.groups import Numbers, column_codes, group_ids
from analysis.rows.linear import of_different_functions
from analysis.rows.log_odds import with_log_odds
from analysis.rows.pairing import (
    ceiling_warnings,
    exchangeable_warnings,
    group_warnings,
    has_new_splits,
    pair_candidates,
    paired_differences,
)
from analysis.rows.select import UNIT
from sweep.core.text import format_count


@dataclass(frozen=True)
class Differences:
    """The difference of two methods in every pool: `pools` has population, pool_id, architecture, start and `value`.

    `examples` has it on each test example by pool_id, None without predictions of all pairs.
    """

    pools: pd.DataFrame
    warnings: tuple[str, ...]
    examples: Mapping[str, Examples] | None
    near_ceiling: bool
    new_splits: bool

    @property
    def target(self) -> str:
        """What an interval of these differences is for: what varies, and what is fixed."""
        return target(new_examples=self.examples is not None, new_splits=self.new_splits)


def pool_differences(
    candidates: pd.DataFrame, a: str, b: str, metric: str = "accuracy", predictions: pd.DataFrame | None = None
) -> Differences:
    """Metric of `a` minus that of `b` on identical subsets, one `value` per pool.

    Mean over the subsets of each size, then over sizes, so that all sizes have equal weight. Predictions are used for
    accuracy alone. Populations in which both methods are one function are left out, with a warning. Raises
    NothingToDrawError if no pool has both, or none is left.
    """
    candidates, same = of_different_functions(candidates, a, b)
    rows = pair_candidates(candidates, a, b, metric, ["n_members"])
    pairs = paired_differences(rows, a, b, metric, ["n_members", "dataset"]).assign(group=0)
    used = pairs[pairs["reason"] == ""]
    if used.empty:
        raise NothingToDrawError("candidates", f"no subset has both `{a}` and `{b}`")
    sizes = used.groupby([*UNIT, "n_members"], sort=True, observed=True)["value"].mean()
    pools = sizes.groupby(level=list(UNIT), sort=True, observed=True).mean().reset_index()
    about = rows.drop_duplicates("pool_id")[["pool_id", "architecture", "start"]]
    own = predictions if metric == "accuracy" else None
    examples = pool_examples(rows, used.assign(share=_shares(used)), a, b, own)
    new_splits = has_new_splits(rows)
    ceiling = bool(ceiling_warnings(pairs, 1)[0])
    warnings = (*same, *group_warnings(pairs, 1)[0], *(() if new_splits else exchangeable_warnings(about["start"])))
    return Differences(pools.merge(about, on="pool_id"), warnings, examples, ceiling, new_splits)


def _shares(used: pd.DataFrame) -> pd.Series:
    """The weight of each pair in the value of its pool: sizes have equal weight, and subsets of one size."""
    subsets = used.groupby(["pool_id", "n_members"], observed=True)["value"].transform("size")
    return 1 / (subsets * used.groupby("pool_id", observed=True)["n_members"].transform("nunique"))


def contrast(
    candidates: pd.DataFrame,
    a: str,
    b: str,
    *,
    margin: float,
    metric: str = "accuracy",
    predictions: pd.DataFrame | None = None,
) -> PoolValues:
    """Metric of `a` minus that of `b` on identical subsets, for new pools of the same populations.

    With the table `predictions` the interval is for new test images as well; the estimand says which.
    """
    found = pool_differences(candidates, a, b, metric, predictions)
    question = Question(f"{metric}: {a} minus {b}, {found.target}", "pool", 0.0, margin)
    warnings = [*found.warnings, *(_in_log_odds(candidates, a, b) if found.near_ceiling else ())]
    if found.examples is None and not found.pools["value"].any():
        warnings.append("equal in every pool: the predictions of the test images would bound the difference")
    return PoolValues(found.pools, question, warnings, examples=found.examples)


def _in_log_odds(candidates: pd.DataFrame, a: str, b: str) -> tuple[str, ...]:
    """The difference as log-odds, a second scale for accuracies near the ceiling; empty if it cannot be computed."""
    try:
        pools = pool_differences(with_log_odds(candidates), a, b).pools
    except AnalysisError:
        return ()
    one = PoolValues(pools, Question("log-odds", "pool", 0.0)).estimate
    return (f"in log-odds {one.estimate:+.2f} [{one.low:+.2f}, {one.high:+.2f}] over pools",)


def estimate_over_pools(
    values: pd.DataFrame,
    by: Sequence[str],
    *,
    estimand: str,
    null: float | None = None,
    margin: float | None = None,
    noun: str = "row",
) -> pd.DataFrame:
    """One estimate per group from `value` (NaN if left out) and `reason`: mean in each pool, then t over pools.

    Rows of one pool have equal weight; rows that are left out are counted in `warnings`, which also name a mean `level`
    (the accuracy on which a value rests, where `values` have it) near the ceiling. Columns: `by`, then Estimate's
    fields.
    """
    group, first = group_ids(values, by)
    own, count = column_codes(values["pool_id"])
    value = values["value"].to_numpy(np.float64, na_value=np.nan)
    rows = pd.DataFrame({"group": group, "pool": group * count + own, "value": value})
    rows = rows.assign(reason=values["reason"].to_numpy(object))
    rows = rows.assign(level=values["level"].to_numpy(np.float64, na_value=np.nan)) if "level" in values else rows
    warnings_by_group = _warnings_by_group(rows, len(first), noun)
    pools, means = _means(rows)
    ends = np.searchsorted(pools, np.arange(len(first) + 1) * count)
    keys = values[list(by)].iloc[first].astype(object).to_dict("records")
    found = []
    for index, key in enumerate(keys):
        mine = means[ends[index] : ends[index + 1]].tolist()
        one = pool_mean(mine, estimand=estimand, null=null, margin=margin, warnings=warnings_by_group[index])
        found.append({**key, **vars(one)})
    return pd.DataFrame(found)


def _means(rows: pd.DataFrame) -> tuple[Numbers, np.ndarray]:
    """The number of each pool with a usable row, in order, and the mean of its values."""
    kept = (rows["reason"] == "").to_numpy(bool) & rows["value"].notna().to_numpy()
    pool = rows["pool"].to_numpy()[kept]
    value = rows["value"].to_numpy()[kept]
    # Sorted first: the last bit of a sum depends on the order of its terms.
    order = np.lexsort((value, pool))
    pools, starts, counts = np.unique(pool[order], return_index=True, return_counts=True)
    return pools, (np.add.reduceat(value[order], starts) / counts if len(pools) else np.zeros(0))


def _warnings_by_group(rows: pd.DataFrame, groups: int, noun: str) -> list[list[str]]:
    """Warnings of each group: rows with a `reason`, called a `noun`, pools without usable rows, and the ceiling."""
    warnings: list[list[str]] = [[] for _ in range(groups)]
    excluded = rows[rows["reason"] != ""]
    used = rows[rows["reason"] == ""]
    for (group, reason), n in excluded.groupby(["group", "reason"], sort=True).size().items():
        warnings[group].append(f"{format_count(n, noun)} left out: {reason}")
    pools, kept = (np.bincount(part.drop_duplicates("pool")["group"], minlength=groups) for part in (rows, used))
    for group in np.flatnonzero((kept > 0) & (pools > kept)):
        missing = int(pools[group] - kept[group])
        warnings[group].append(f"{format_count(missing, 'pool')} without a usable {noun}")
    return [[*own, *ceiling] for own, ceiling in zip(warnings, ceiling_warnings(rows, groups), strict=True)]
