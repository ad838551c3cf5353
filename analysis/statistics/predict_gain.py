"""Prediction of the gain of merging two members from measures of the pair."""

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
from analysis.inference.few import near_ceiling
from analysis.inference.pairwise import FEWEST, Pairs, has_spread, left_out_r2, partial_slopes, rank_correlation
from analysis.inference.qap import qap, qap_p
from analysis.inference.verdict import adjust_and_judge, adjust_p_values
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, refuse_mixture, require, select_split
from sweep.core.text import did_you_mean, format_count

CITES = (
    "holm1979simple",
    "krackhardt1988predicting",
    "dekker2007sensitivity",
    "hu2025kinship",
    "kornblith2019similarity",
)

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
    """Prediction of the gain of merging two members, the metric of the merge minus their mean, by columns of `pairs`.

    The mean, not the better member: otherwise regression to the mean makes any distance predict. One row per
    population, `predictor` and `quantity`: `rank correlation` within a pool (Spearman; averaged as Fisher's z, to which
    `se` refers); `leave-pool-out R²` of a line fitted on the other pools, relative to the pool's own mean (negative if
    worse than that mean), from sums of squares over all pools; and, for several predictors, `partial slope` (all
    standardised in their pools) with the R² of all `jointly`. Intervals are Student's t over pools, for slopes and R²
    with the jackknife over pools; they are for new pools. `qap_p` is for the pools of this run: it relabels members
    within pools 2,000 times (Krackhardt 1988; partial slopes by Dekker 2007), so it may be small even if pools
    disagree. Believe `qap_p_adjusted` on whether a predictor and the gain go together in these pools, and the interval
    with `p_adjusted` only on whether they do in new pools: with few pools t has little power. Both are corrected by
    Holm for the predictors of a population.
    Pools of fewer than 4 members or without spread, pairs that lack a value, and predictors without any value are left
    out and counted in `warnings`. A perfect rank correlation is replaced by one half a swap away from it.
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
    return _corrected(pd.DataFrame(found))


def _corrected(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with both p corrected for the predictors of their population and quantity, and the verdict of that."""
    at = rows.columns.get_loc("qap_p")
    assert isinstance(at, int)
    rows.insert(at + 1, "qap_p_adjusted", math.nan)
    families = rows.groupby(["population", "quantity"], sort=False)
    parts = [
        adjust_and_judge(own.assign(qap_p_adjusted=adjust_p_values(own["qap_p"].to_numpy(np.float64), "holm")), "holm")
        for _, own in families
    ]
    return pd.concat(parts).loc[rows.index]


def pair_gains(
    candidates: pd.DataFrame, pairs: pd.DataFrame, *, label: str, predictors: Sequence[str], metric: str
) -> pd.DataFrame:
    """Every pair with its predictors, `gain` (NaN if unknown), the `reason` (empty if the pair was not merged) and the
    `level`, the mean accuracy of the merge and its members.

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
    unlisted = (found["sides"] == "right_only") & (found["reason"] == "")
    found["reason"] = found["reason"].fillna("").mask(unlisted, "no row in `pairs`")
    return found.drop(columns="sides").sort_values([*UNIT, *PAIR], ignore_index=True)


def _in_order(ends: Any) -> dict[str, Any]:
    """The two members of each pair, sorted by id."""
    swap = np.array([a > b for a, b in ends], dtype=bool)
    return {name: np.where(swap, ends[:, 1 - side], ends[:, side]) for side, name in enumerate(PAIR)}


def _gains(merges: pd.DataFrame, singles: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The metric of each merge minus the mean of its two members', the reason if it is missing, and their accuracy."""
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
    around = found["merge"].astype(np.float64) - gain / 2 if metric == "accuracy" else np.nan
    return found.assign(gain=gain.where(found["reason"] == ""), level=around)[[*UNIT, *PAIR, "gain", "reason", "level"]]


def _population(rows: pd.DataFrame, predictors: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """All rows of one population."""
    names = [name for name in predictors if rows[name].notna().any()]
    skipped = tuple(f"`{name}` skipped: no values" for name in predictors if name not in names)
    for name in names:
        pools, exclusions = usable_pools(rows, [name])
        alone = {"predictor": name, "n_pairs": sum(int(pool.usable.sum()) for pool in pools)}
        p = _qap_p([pool.ranked() for pool in pools], 0, seed)
        yield {**alone, "quantity": QUANTITIES[0], "qap_p": p, **asdict(_rank(pools, name, (*skipped, *exclusions)))}
        yield {
            **alone,
            "quantity": QUANTITIES[1],
            "qap_p": math.nan,
            **asdict(_r2(pools, name, (*skipped, *exclusions))),
        }
    if len(names) > 1:
        yield from _jointly(rows, names, skipped, seed)


def usable_pools(rows: pd.DataFrame, names: Sequence[str]) -> tuple[list[Pairs], tuple[str, ...]]:
    """The pools of one population with enough pairs that have a gain and these predictors, and warnings."""
    ends = rows[PAIR].to_numpy(object)
    pool_ids = rows["pool_id"].to_numpy(object)
    features = rows[list(names)].to_numpy(np.float64)
    gain = rows["gain"].to_numpy(np.float64)
    reason = rows["reason"].to_numpy(object, copy=True)
    merged = np.isfinite(gain) | (reason != "")
    for name, values in zip(names, features.T, strict=True):
        reason[(reason == "") & np.isfinite(gain) & ~np.isfinite(values)] = f"no {name}"
    counts = Counter(reason[reason != ""])
    warnings = [f"{format_count(n, 'pair')} left out: {why}" for why, n in sorted(counts.items())]
    pools = []
    unusable = []
    for pool_id in sorted(set(pool_ids[merged])):
        own = pool_ids == pool_id
        places = np.unique(ends[own], return_inverse=True)[1].reshape(-1, 2)
        pool = Pairs(str(pool_id), places, features[own], gain[own])
        why = _pool_defect(pool, names)
        unusable += [why] if why else []
        pools += [] if why else [pool]
    warnings += [f"{format_count(n, 'pool')} left out: {why}" for why, n in sorted(Counter(unusable).items())]
    levels = rows.loc[(reason == "") & np.isfinite(gain), "level"]
    return pools, (*warnings, *near_ceiling(levels))


def _pool_defect(pool: Pairs, names: Sequence[str]) -> str:
    """The reason why a pool cannot be used; empty if it can."""
    if pool.n_members < FEWEST:
        return f"fewer than {FEWEST} members with usable pairs"
    if not has_spread(pool.target[pool.usable]):
        return "all gains are equal"
    flat = [name for name, values in zip(names, pool.features[pool.usable].T, strict=True) if not has_spread(values)]
    return f"all values of {flat[0]} are equal" if flat else ""


def _qap_p(pools: Sequence[Pairs], column: int, seed: int) -> float:
    """The p of the permutation of members (QAP); NaN without pools."""
    return qap_p(qap(pools, column, permutations=PERMUTATIONS, seed=seed)[1]) if pools else math.nan


def _rank(pools: Sequence[Pairs], name: str, warnings: Sequence[str]) -> Estimate:
    """The mean over pools of Fisher's z of the rank correlation, mapped back."""
    counts = [int(pool.usable.sum()) for pool in pools]
    most = [1 - 6 / (n**3 - n) for n in counts]
    z = [math.atanh(min(max(rank_correlation(pool), -end), end)) for pool, end in zip(pools, most, strict=True)]
    found = pool_mean(z, estimand=f"rank correlation of gain and {name}", null=0.0, warnings=warnings)
    low, high = (math.tanh(end) if math.isfinite(end) else end for end in (found.low, found.high))
    return replace(found, estimate=math.tanh(found.estimate), low=low, high=high)


def _r2(pools: Sequence[Pairs], name: str, exclusions: Sequence[str]) -> Estimate:
    """The R² over pools of lines that were fitted on the other pools, with t and the jackknife over pools."""
    n = len(pools)
    defects = {0: "no pool: nothing to estimate", 1: "one pool: no other pool to fit a line on"}
    defects[2] = "two pools: no interval can be given"
    warnings = (*exclusions, defects[n]) if n in defects else exclusions
    estimate, error = left_out_r2(pools) if pools else (math.nan, math.nan)
    return student(estimate, error, n - 1.0, n, Question(f"leave-pool-out R² of gain by {name}"), warnings)


def _jointly(rows: pd.DataFrame, names: list[str], skipped: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """Partial slope of each predictor, and the R² of all jointly."""
    pools, warnings = usable_pools(rows, names)
    warnings = (*skipped, *warnings)
    n_pairs = sum(int(pool.usable.sum()) for pool in pools)
    found = partial_slopes(pools) if pools else None
    slopes, errors = found or (np.full(len(names), math.nan),) * 2
    slope_warnings = (*warnings, *_slope_warnings(len(pools), found is not None))
    for k, name in enumerate(names):
        about = Question(f"partial slope of gain on {name}", null=0.0)
        one = student(slopes[k], errors[k], max(len(pools) - 1.0, 0.0), len(pools), about, slope_warnings)
        p = _qap_p(pools, k, seed) if found else math.nan
        yield {"predictor": name, "n_pairs": n_pairs, "quantity": QUANTITIES[2], "qap_p": p, **asdict(one)}
    joint = asdict(_r2(pools, "all predictors", warnings))
    yield {"predictor": JOINTLY, "n_pairs": n_pairs, "quantity": QUANTITIES[1], "qap_p": math.nan, **joint}


def _slope_warnings(n_pools: int, known: bool) -> Iterator[str]:
    """Warnings for partial slopes that are missing or have no interval."""
    if n_pools < 2:
        yield "one pool: no interval can be given" if n_pools else "no pool: nothing to estimate"
    if n_pools and not known:
        yield "too few pairs, or collinear predictors: slopes cannot be estimated"
