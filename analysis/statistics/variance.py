"""Components of the variance of a metric: pools, members, and the subset itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.components import (
    COMPONENTS,
    CROSSED,
    Array,
    Moments,
    crossed,
    estimates,
    jackknife,
    moments,
    stacked,
)
from analysis.inference.estimate import Question, student
from analysis.inference.few import dominated, near_ceiling
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, refuse_mixture, require, select_split
from sweep.core.text import format_count

CITES = ("rao1971minque",)

BY = ("population", "label")
TEXTS = [*BY, "pool_id", "subset"]
KEPT = [*TEXTS, "n_members", "members", "member_indices"]
SEEDS = ["init_seed", "order_seed"]
FRACTIONS = ("accuracy", "ece", "ece_mass")


def variance(candidates: pd.DataFrame, members: pd.DataFrame, *, metric: str = "accuracy") -> pd.DataFrame:
    """Variance components of a metric by `quantity`: between pools, between members of a pool, and of the subset.

    Model: value = mean of the subset's size + effect of the pool + mean of the effects of its members + rest of the
    subset, per population and label. Components are estimated by moments (`analysis.inference.components`). The unit
    of replication is the pool. `estimate` is in points² for accuracy and ece, else in the metric squared; `share` is
    the component divided by the sum of all, with `share_low` and `share_high`.
    Single members have no component `subset`. If the seeds in `members` are crossed within the pools (every
    `init_seed` with every `order_seed`), the variance of single members is split into `init`, `order` and `residual`.
    Merges treat members as independent, which crossed members are not. Intervals are Student's t with the standard
    error of the jackknife over pools; those of the component `pool` cover 88% at 12 pools and 92% at 40.
    An estimate may be below zero; it is reported with a warning. A component is NaN if subsets of these sizes cannot
    separate it from the others, for example if all have the same number of members. Rows that are not ok are left out
    and counted. Raises AnalysisError for a missing column, duplicated rows, or a mixture of splits, protocols or
    scalings.
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
        dict(zip(BY, key, strict=True)) | component
        for key, group in rows.groupby(list(BY), sort=True)
        for component in _group_components(group, seeds, estimand, near_ceiling(_levels(group, points), metric))
    ]
    return pd.DataFrame(found)


def _levels(rows: pd.DataFrame, points: int) -> np.ndarray:
    """The usable values in the unit of the metric."""
    levels: np.ndarray = rows.loc[rows["reason"] == "", "value"].to_numpy(np.float64) / points
    return levels


def _group_components(
    rows: pd.DataFrame, seeds: pd.DataFrame, estimand: str, ceiling: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """One row per component of one population and label; `ceiling` are warnings about its level."""
    counts = Counter(rows.loc[rows["reason"] != "", "reason"])
    warnings = [f"{format_count(n, 'row')} left out: {reason}" for reason, n in sorted(counts.items())]
    warnings += ceiling
    used = rows[rows["reason"] == ""]
    n_pools = used["pool_id"].nunique()
    n_unused = rows["pool_id"].nunique() - n_pools
    if n_unused:
        warnings.append(f"{format_count(n_unused, 'pool')} without a usable row")
    single = bool((rows["n_members"] == 1).all())
    tables, n_uncrossed = _seed_tables(used, seeds) if single else ([], 0)
    if tables:
        if n_uncrossed:
            warnings.append(f"{format_count(n_uncrossed, 'pool')} left out: seeds not fully crossed")
        yield from _component_rows(CROSSED, _crossed_components(tables), len(tables), estimand, warnings)
    else:
        names = COMPONENTS[: 2 if single else 3]
        yield from _component_rows(names, _subset_components(used, len(names)), n_pools, estimand, warnings)


def _crossed_components(tables: Sequence[Array]) -> Array:
    """(1 + pools, components): of all pools, then without each pool in turn; with one pool the first row alone."""
    without_one = [[*tables[:k], *tables[k + 1 :]] for k in range(len(tables))] if len(tables) > 1 else []
    return np.array([crossed(some) for some in (tables, *without_one)])


def _subset_components(rows: pd.DataFrame, count: int) -> Array:
    """(1 + pools, components), in the order of `_crossed_components`; NaN where rows do not determine a component."""
    if rows.empty:
        return np.full((1, count), np.nan)
    pools = _pool_moments(rows)
    sums = stacked(pools)
    whole = estimates(sums.total(), count)[None]
    return np.concatenate([whole, estimates(sums.without(), count)]) if len(pools) > 1 else whole


def _component_rows(
    names: Sequence[str], found: Array, n: int, estimand: str, warnings: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The components and their shares, with jackknife intervals over `n` pools."""
    shares = _shares(found)
    no_errors = np.full(len(names), np.nan)
    df = max(n - 1.0, 0.0)
    errors, share_errors = (jackknife(values[1:]) if n > 1 else no_errors for values in (found, shares))
    for k, name in enumerate(names):
        skew = dominated(found[1:, k]) if errors[k] > 0 else ()
        all_warnings = (*warnings, *skew, *_component_warnings(found[0], errors, k, n))
        component = student(found[0, k], errors[k], df, n, Question(estimand), all_warnings)
        share = student(shares[0, k], share_errors[k], df, n, Question("share"))
        share_columns = {"share": share.estimate, "share_low": share.low, "share_high": share.high}
        yield {"quantity": name, **share_columns, **asdict(component)}


def _shares(components: Array) -> Array:
    """Components over their sum, along the last axis; NaN where the sum is not above zero."""
    total = components.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(total > 0, components / np.where(total > 0, total, 1.0), np.nan))


def _component_warnings(whole: Array, errors: Array, k: int, n: int) -> Iterator[str]:
    """The warnings of component `k` of `n` pools."""
    if n < 2:
        yield "one pool: no interval can be given" if n else "no pool: nothing to estimate"
    elif math.isnan(errors[k]) and not math.isnan(whole[k]):
        yield "too few pools for an interval"
    if n > 1 and math.isnan(whole[k]):
        yield "subsets of these sizes cannot separate this component from the others"
    if whole[k] < -1e-9 * np.nansum(np.abs(whole)):
        yield "below zero, which moment estimates can be: the component is small against its error"


def _pool_moments(rows: pd.DataFrame) -> list[Moments]:
    """The sums of each pool, in the order of the pool ids; values are centred over all pools."""
    sizes, size = np.unique(rows["n_members"].to_numpy(np.int64), return_inverse=True)
    values = rows["value"].to_numpy(np.float64)
    values = values - values.mean()
    ids = rows["pool_id"].to_numpy(object)
    subsets = rows["member_indices"].to_numpy(object)
    found = []
    for pool_id in sorted(set(ids)):
        own = ids == pool_id
        found.append(moments(_member_shares(subsets[own]), size[own], values[own], len(sizes)))
    return found


def _member_shares(subsets: np.ndarray) -> Array:
    """(subsets, members): 1 / size where the member is in the subset, else 0."""
    counts = [len(members) for members in subsets]
    member = np.concatenate(subsets).astype(np.intp)
    shares = np.zeros((len(counts), int(member.max()) + 1))
    shares[np.repeat(np.arange(len(counts)), counts), member] = np.repeat(1 / np.array(counts), counts)
    return shares


def _seed_tables(rows: pd.DataFrame, seeds: pd.DataFrame) -> tuple[list[Array], int]:
    """Values by (initial weights, data order), one table per pool with crossed seeds, and the number of other pools."""
    own = rows.assign(member=[members[0] for members in rows["members"]]).join(seeds, on="member")
    tables = []
    n_uncrossed = 0
    for _, pool in own.groupby("pool_id", sort=True):
        known = pool.dropna(subset=SEEDS)
        table = known.pivot_table("value", *SEEDS, aggfunc="mean").to_numpy(np.float64)
        if min(table.shape) > 1 and table.size == len(pool) and bool(np.isfinite(table).all()):
            tables.append(table)
        else:
            n_uncrossed += 1
    return tables, n_uncrossed
