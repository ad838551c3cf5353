"""What tells beforehand which two members will merge well."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.estimate import Estimate, Question, pool_mean, student
from analysis.inference.pairwise import FEWEST, Pairs, has_spread, left_out_r2, partial_slopes, rank_correlation
from analysis.inference.qap import qap, qap_p
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, refuse_mixture, require, select_split
from sweep.core.text import did_you_mean

CITES = ("krackhardt1988predicting", "dekker2007sensitivity", "hu2025kinship", "kornblith2019similarity")

PREDICTORS = ("l2_distance", "cosine", "task_cosine", "cka")
QUANTITIES = ("rank correlation", "leave-pool-out R²", "partial slope")
JOINTLY = "jointly"
PERMUTATIONS = 2000
PAIR = ["member_a", "member_b"]


def predict_gain(
    candidates: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    label: str = "uniform_soup",
    predictors: Sequence[str] = PREDICTORS,
    metric: str = "accuracy",
    seed: int = 0,
) -> pd.DataFrame:
    """How far columns of `pairs` tell the gain of merging two members: the metric of the merge minus their mean.

    The mean, not the better one: else regression to the mean makes any distance predict. One row per population,
    `predictor` and `quantity`: the rank correlation in a pool (Spearman; averaged as Fisher's z, of which `se` is); the
    leave-pool-out R², of what a line fitted on the other pools leaves of the variance around the pool's own mean
    (negative where it is worse than that mean); and, for several predictors, `partial slope` (all standardised in their
    pools) with the R² of all `jointly`. Intervals are Student's t over pools, for slopes of the jackknife that leaves a
    pool out: they speak of new pools. `qap_p` speaks of the pools at hand: members are relabelled inside them 2,000
    times (Krackhardt 1988; partial slopes by Dekker 2007), so it may be small where pools disagree.
    Pools of fewer than 4 members or without spread, and pairs that lack a value, are left out and counted in
    `warnings`; so is a predictor without any value. A perfect rank order counts as half a swap away from it.
    Raises AnalysisError for a missing column, duplicated rows, or where no pair was merged by `label`.
    """
    rows = pair_gains(candidates, pairs, label=label, predictors=predictors, metric=metric)
    if rows[list(predictors)].isna().all(axis=None):
        raise NothingToDrawError("pairs", "no values of " + ", ".join(f"`{name}`" for name in predictors))
    found = [
        {"population": name, **one}
        for name, group in rows.groupby("population", sort=True)
        for one in _population(group, predictors, seed)
    ]
    return pd.DataFrame(found)


def pair_gains(
    candidates: pd.DataFrame, pairs: pd.DataFrame, *, label: str, predictors: Sequence[str], metric: str
) -> pd.DataFrame:
    """Every pair with its predictors, `gain` (NaN where not known) and `reason` (why not; empty if it was not merged).

    Sorted by population, pool and members. Raises AnalysisError as `predict_gain` does.
    """
    require(pairs, [*UNIT, *PAIR, *predictors])
    require(candidates, ["n_members", metric])
    if pairs.empty:
        raise NothingToDrawError("pairs", "no rows")
    rows = select_split(candidates)
    merges = rows[(rows["label"] == label) & (rows["n_members"] == 2)]
    if merges.empty:
        hint = did_you_mean(label, set(rows.loc[rows["n_members"] == 2, "label"]))
        raise NothingToDrawError("candidates", f"no pairs merged by `{label}`", hint)
    singles = rows[rows["label"] == "single"]
    for frame in (merges, singles):
        refuse_duplicates(frame, [*UNIT, "subset", *FIXED])
    refuse_mixture(rows, ["population"])
    known = pairs[[*UNIT, *PAIR, *predictors]]
    known = known.astype(dict.fromkeys(UNIT, object) | dict.fromkeys(predictors, np.float64))
    known = known.assign(**_in_order(known[PAIR].to_numpy(object)))
    refuse_duplicates(known, [*UNIT, *PAIR])
    gains = _gains(merges, singles, metric)
    found = known.merge(gains, "outer", on=[*UNIT, *PAIR], indicator="sides")
    lost = (found["sides"] == "right_only") & (found["reason"] == "")
    found["reason"] = found["reason"].fillna("").mask(lost, "no row in `pairs`")
    return found.drop(columns="sides").sort_values([*UNIT, *PAIR], ignore_index=True)


def _in_order(ends: Any) -> dict[str, Any]:
    """The two members of each pair in one order, whoever comes first in the pool."""
    swap = np.array([a > b for a, b in ends], dtype=bool)
    return {name: np.where(swap, ends[:, 1 - side], ends[:, side]) for side, name in enumerate(PAIR)}


def _gains(merges: pd.DataFrame, singles: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The metric of each merge minus the mean of its two members', and why there is none."""
    ends = np.array([list(members) for members in merges["members"]], dtype=object)
    found = merges[list(UNIT)].astype(object).assign(**_in_order(ends))
    found = found.assign(merge=merges[metric], reason=exclusion_reason(merges, metric))
    level = singles["subset"].to_numpy(object), singles[metric].where(singles["status"] == "ok").to_numpy(np.float64)
    alone = singles[list(UNIT)].astype(object).assign(member=level[0], level=level[1])
    for name in PAIR:
        one = alone.rename(columns={"member": name, "level": f"level_{name}"})
        found = found.merge(one, "left", on=[*UNIT, name])
    gain = found["merge"].astype(np.float64) - found[[f"level_{name}" for name in PAIR]].mean(axis=1, skipna=False)
    lacking = (found["reason"] == "") & ~np.isfinite(gain)
    found["reason"] = found["reason"].mask(lacking, "no `single` of a member")
    return found.assign(gain=gain.where(found["reason"] == ""))[[*UNIT, *PAIR, "gain", "reason"]]


def _population(rows: pd.DataFrame, predictors: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """All rows of one population."""
    names = [name for name in predictors if rows[name].notna().any()]
    told = tuple(f"`{name}` skipped: no values" for name in predictors if name not in names)
    for name in names:
        pools, warnings = pools_of(rows, [name])
        alone = {"predictor": name, "n_pairs": sum(int(pool.usable.sum()) for pool in pools)}
        p = _p([pool.ranked() for pool in pools], 0, seed)
        yield {**alone, "quantity": QUANTITIES[0], "qap_p": p, **asdict(_rank(pools, name, (*told, *warnings)))}
        yield {**alone, "quantity": QUANTITIES[1], "qap_p": math.nan, **asdict(_r2(pools, name, (*told, *warnings)))}
    if len(names) > 1:
        yield from _jointly(rows, names, told, seed)


def pools_of(rows: pd.DataFrame, names: Sequence[str]) -> tuple[list[Pairs], tuple[str, ...]]:
    """The pools of one population that have enough pairs with a gain and these predictors, and what was left out."""
    ends, pool_ids = rows[PAIR].to_numpy(object), rows["pool_id"].to_numpy(object)
    features, gain = rows[list(names)].to_numpy(np.float64), rows["gain"].to_numpy(np.float64)
    reason = rows["reason"].to_numpy(object, copy=True)
    merged = np.isfinite(gain) | (reason != "")
    for name, values in zip(names, features.T, strict=True):
        reason[(reason == "") & np.isfinite(gain) & ~np.isfinite(values)] = f"no {name}"
    counts = Counter(reason[reason != ""])
    told = [f"{n} pair{'s' * (n > 1)} left out: {why}" for why, n in sorted(counts.items())]
    pools, lost = [], []
    for pool_id in sorted(set(pool_ids[merged])):
        own = pool_ids == pool_id
        places = np.unique(ends[own], return_inverse=True)[1].reshape(-1, 2)
        pool = Pairs(str(pool_id), places, features[own], gain[own])
        why = _unfit(pool, names)
        lost += [why] if why else []
        pools += [] if why else [pool]
    told += [f"{n} pool{'s' * (n > 1)} left out: {why}" for why, n in sorted(Counter(lost).items())]
    return pools, tuple(told)


def _unfit(pool: Pairs, names: Sequence[str]) -> str:
    """Why a pool cannot be used; empty if it can."""
    if pool.n_members < FEWEST:
        return f"fewer than {FEWEST} members with usable pairs"
    if not has_spread(pool.target[pool.usable]):
        return "all gains are equal"
    flat = [name for name, values in zip(names, pool.features[pool.usable].T, strict=True) if not has_spread(values)]
    return f"all values of {flat[0]} are equal" if flat else ""


def _p(pools: Sequence[Pairs], column: int, seed: int) -> float:
    """The p of relabelled members; NaN without pools."""
    return qap_p(qap(pools, column, permutations=PERMUTATIONS, seed=seed)[1]) if pools else math.nan


def _rank(pools: Sequence[Pairs], name: str, warnings: Sequence[str]) -> Estimate:
    """The mean over pools of Fisher's z of the rank correlation, mapped back."""
    counts = [int(pool.usable.sum()) for pool in pools]
    most = [1 - 6 / (n**3 - n) for n in counts]
    z = [math.atanh(min(max(rank_correlation(pool), -end), end)) for pool, end in zip(pools, most, strict=True)]
    found = pool_mean(z, estimand=f"rank correlation of gain and {name}", null=0.0, warnings=warnings)
    low, high = (math.tanh(end) if math.isfinite(end) else end for end in (found.low, found.high))
    return replace(found, estimate=math.tanh(found.estimate), low=low, high=high)


def _r2(pools: Sequence[Pairs], name: str, warnings: Sequence[str]) -> Estimate:
    """The mean over pools of the R² of lines that were fitted on the other pools."""
    alone = len(pools) == 1
    told = (*warnings, "one pool: no other to fit a line on") if alone else warnings
    values = left_out_r2(pools) if len(pools) > 1 else []
    return pool_mean(values, estimand=f"leave-pool-out R² of gain by {name}", warnings=told)


def _jointly(rows: pd.DataFrame, names: list[str], told: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """Each predictor beside the others, and all together."""
    pools, warnings = pools_of(rows, names)
    warnings = (*told, *warnings)
    n_pairs = sum(int(pool.usable.sum()) for pool in pools)
    found = partial_slopes(pools) if pools else None
    slopes, errors = found or (np.full(len(names), math.nan),) * 2
    told_slopes = (*warnings, *_about_slopes(len(pools), found is not None))
    for k, name in enumerate(names):
        about = Question(f"partial slope of gain on {name}", null=0.0)
        one = student(slopes[k], errors[k], max(len(pools) - 1.0, 0.0), len(pools), about, told_slopes)
        p = _p(pools, k, seed) if found else math.nan
        yield {"predictor": name, "n_pairs": n_pairs, "quantity": QUANTITIES[2], "qap_p": p, **asdict(one)}
    joint = asdict(_r2(pools, "all predictors", warnings))
    yield {"predictor": JOINTLY, "n_pairs": n_pairs, "quantity": QUANTITIES[1], "qap_p": math.nan, **joint}


def _about_slopes(n_pools: int, known: bool) -> Iterator[str]:
    """What a reader of the partial slopes must know."""
    if n_pools < 2:
        yield "one pool: no interval can be given" if n_pools else "no pool: nothing to estimate"
    if n_pools and not known:
        yield "too few pairs, or predictors that repeat each other: no slopes can be told apart"
