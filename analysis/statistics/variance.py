"""Where the differences between results come from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.components import COMPONENTS, CROSSED, Array, crossed, estimates, jackknife, moments, stacked
from analysis.inference.estimate import Question, student
from analysis.inference.likelihood import Layout, restricted
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, refuse_mixture, require, select_split

BY = ("population", "label")
TEXTS = [*BY, "pool_id", "subset"]
KEPT = [*TEXTS, "n_members", "members", "member_indices"]
SEEDS = ["init_seed", "order_seed"]
FRACTIONS = ("accuracy", "ece")
Estimator = Literal["moments", "likelihood"]
Part = TypeVar("Part")


def variance(
    candidates: pd.DataFrame, members: pd.DataFrame, *, metric: str = "accuracy", estimator: Estimator = "moments"
) -> pd.DataFrame:
    """Variance of a metric by `quantity`: between pools, between members of a pool, and of the subset by itself.

    Model: the mean of the subsets' size, plus pool, plus the mean of the members' parts, plus the subset's own; by
    moments (`analysis.components`), per population and label. In points² for accuracy and ece, else the metric squared.
    `share` is a component over the sum of all, with its own interval. Single members have no part of a subset; where
    the seeds in `members` are crossed in a pool (every `init_seed` with every `order_seed`), their part is told apart
    as init, order and residual (merges take members as independent, which crossed ones are not). Intervals are those of
    the jackknife that leaves a pool out, with Student's t: for pools they cover 88% at 12 pools, 92% at 40.
    By moments a component may come out below zero: it is reported so, with a warning. `estimator=likelihood` takes
    restricted maximum likelihood, which cannot, and needs statsmodels (the extra of that name). A component is NaN
    where subsets of these sizes cannot tell it from the others, as when all share the same number of members. Rows that
    are not ok are left out and counted. Raises AnalysisError for a missing column, duplicated rows, or a mixture of
    splits, protocols or scalings.
    """
    require(candidates, ["n_members", "member_indices", metric])
    require(members, ["member_id", *SEEDS])
    if members.empty:
        raise NothingToDrawError("members", "no rows")
    refuse_duplicates(members, ["member_id"])
    rows = select_split(candidates)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    refuse_mixture(rows, BY)
    points = 100 if metric in FRACTIONS else 1
    values = rows[metric].astype(np.float64) * points
    rows = rows.assign(value=values, reason=exclusion_reason(rows, metric))[[*KEPT, "value", "reason"]]
    rows = rows.astype(dict.fromkeys(TEXTS, object)).sort_values([*BY, "pool_id", "subset"])
    seeds = members.set_index("member_id")[SEEDS]
    estimand = f"variance of {metric}" + (" in points²" if points > 1 else "")
    found = [
        dict(zip(BY, key, strict=True)) | one
        for key, group in rows.groupby(list(BY), sort=True)
        for one in _group(group, seeds, estimand, estimator)
    ]
    return pd.DataFrame(found)


def _group(rows: pd.DataFrame, seeds: pd.DataFrame, estimand: str, estimator: Estimator) -> Iterator[dict[str, Any]]:
    """One row per component of one population and label."""
    counts = Counter(rows.loc[rows["reason"] != "", "reason"])
    told = [f"{n} row{'s' * (n > 1)} left out: {why}" for why, n in sorted(counts.items())]
    kept = rows[rows["reason"] == ""]
    lost = rows["pool_id"].nunique() - kept["pool_id"].nunique()
    told += [f"{lost} pool{'s' * (lost > 1)} without a usable row"] if lost else []
    single = bool((rows["n_members"] == 1).all())
    tables, loose = _tables(kept, seeds) if single else ([], 0)
    if tables:
        told += [f"{loose} pool{'s' * (loose > 1)} left out: seeds not fully crossed"] if loose else []
        yield from _told(CROSSED, _of_tables(tables, estimator), len(tables), estimand, told)
    else:
        names = COMPONENTS[: 2 if single else 3]
        yield from _told(names, _of_subsets(kept, len(names), estimator), kept["pool_id"].nunique(), estimand, told)


def _of_tables(tables: Sequence[Array], estimator: Estimator) -> Array:
    """(1 + pools, components): from all pools, then from all but one, for each; of fewer than two the first alone."""
    if estimator == "moments":
        return _with_and_without(tables, crossed)
    return _with_and_without([_of_table(table) for table in tables], restricted)


def _of_table(table: Array) -> Layout:
    """The values of a pool, each with its initial weights and its data order."""
    inits, orders = table.shape
    inside = np.repeat(np.eye(inits), orders, axis=0), np.tile(np.eye(orders), (inits, 1))
    return Layout(table.ravel(), np.ones((table.size, 1)), inside)


def _of_subsets(rows: pd.DataFrame, count: int, estimator: Estimator) -> Array:
    """(1 + pools, components), as `_of_tables`; NaN without rows, and where these subsets cannot tell one apart."""
    if rows.empty:
        return np.full((1, count), np.nan)
    pools = _pools(rows)
    sums = stacked(
        [moments(pool.inside[0], pool.fixed.argmax(axis=1), pool.values, pool.fixed.shape[1]) for pool in pools]
    )
    whole = estimates(sums.total(), count)[None]
    found = np.concatenate([whole, estimates(sums.without(), count)]) if len(pools) > 1 else whole
    if estimator == "moments":
        return found
    likely = pools if count > 2 else [Layout(pool.values, pool.fixed) for pool in pools]
    return np.where(np.isnan(found), np.nan, _with_and_without(likely, restricted))


def _with_and_without(pools: Sequence[Part], ask: Callable[[Sequence[Part]], Array]) -> Array:
    """An answer from all pools, then from all but one, for each; of fewer than two the first alone."""
    several = [[*pools[:k], *pools[k + 1 :]] for k in range(len(pools))] if len(pools) > 1 else []
    return np.array([ask(some) for some in (pools, *several)])


def _told(names: Sequence[str], found: Array, n: int, estimand: str, told: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The components with jackknife intervals, for them and for their shares."""
    shares, none, df = _shares(found), np.full(len(names), np.nan), max(n - 1.0, 0.0)
    errors, share_errors = (jackknife(values[1:]) if n > 1 else none for values in (found, shares))
    for k, name in enumerate(names):
        one = student(found[0, k], errors[k], df, n, Question(estimand), (*told, *_warnings(found[0], errors, k, n)))
        part = student(shares[0, k], share_errors[k], df, n, Question("share"))
        yield {"quantity": name, "share": part.estimate, "share_low": part.low, "share_high": part.high, **asdict(one)}


def _shares(components: Array) -> Array:
    """Components over their sum, along the last axis; NaN where that is not above zero."""
    total = components.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(total > 0, components / np.where(total > 0, total, 1.0), np.nan))


def _warnings(whole: Array, errors: Array, k: int, n: int) -> Iterator[str]:
    """What a reader of one component must know."""
    if n < 2:
        yield "one pool: no interval can be given" if n else "no pool: nothing to estimate"
    elif math.isnan(errors[k]) and not math.isnan(whole[k]):
        yield "too few pools for an interval"
    if n > 1 and math.isnan(whole[k]):
        yield "subsets of these sizes cannot tell this component from the others"
    if whole[k] < -1e-9 * np.nansum(np.abs(whole)):
        yield "below zero, as moments may come out: small against its error"


def _pools(rows: pd.DataFrame) -> list[Layout]:
    """The values of each pool, the sizes of its subsets as effects, and the members' shares in them."""
    sizes, size = np.unique(rows["n_members"].to_numpy(np.int64), return_inverse=True)
    values = rows["value"].to_numpy(np.float64)
    values = values - values.mean()
    ids, subsets = rows["pool_id"].to_numpy(object), rows["member_indices"].to_numpy(object)
    found = []
    for pool_id in sorted(set(ids)):
        own = ids == pool_id
        counts = [len(members) for members in subsets[own]]
        place = np.concatenate(subsets[own]).astype(np.intp)
        shares = np.zeros((len(counts), int(place.max()) + 1))
        shares[np.repeat(np.arange(len(counts)), counts), place] = np.repeat(1 / np.array(counts), counts)
        found.append(Layout(values[own], np.eye(len(sizes))[size[own]], (shares,)))
    return found


def _tables(rows: pd.DataFrame, seeds: pd.DataFrame) -> tuple[list[Array], int]:
    """Values by (initial weights, data order) of the pools whose seeds are fully crossed, and how many are not."""
    own = rows.assign(member=[members[0] for members in rows["members"]]).join(seeds, on="member")
    found, loose = [], 0
    for _, pool in own.groupby("pool_id", sort=True):
        known = pool.dropna(subset=SEEDS)
        table = known.pivot_table("value", *SEEDS, aggfunc="mean").to_numpy(np.float64)
        whole = min(table.shape) > 1 and table.size == len(pool) and bool(np.isfinite(table).all())
        found += [table] if whole else []
        loose += not whole
    return found, loose
