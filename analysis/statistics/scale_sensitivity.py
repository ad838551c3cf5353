"""How much accuracy is lost when members are multiplied before their merge, and how far they may be."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtr

from analysis.core.errors import AnalysisError, NothingToDrawError, suggestion
from analysis.inference.estimate import LEVEL, ROUNDING, Estimate, Question, unit_mean
from analysis.rows.pairing import exclusion_warnings
from analysis.rows.scale import Side, magnified, sides
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, require, select_comparison

CITES = ("wang2024rethinking", "student1908mean")

BY = ["population", "n_members", "space", "label", "arm"]
POINT = [*UNIT, "subset", "arm", "scaling_factor"]
FEWEST = 6
"""Pools from which the smallest and the largest value are a 95% interval of the median."""


@dataclass(frozen=True)
class Measured:
    """One side of a group: `falls` (pools, factors) is accuracy at 1 minus accuracy at a factor, up to the last.

    `pools` are their positions in `names`; `told` says what was left out.
    """

    side: Side
    names: pd.DataFrame
    pools: np.ndarray
    falls: np.ndarray
    told: tuple[str, ...]

    @property
    def span(self) -> float:
        """The length of the range in log factor."""
        return float(self.side.distance[-1])

    @property
    def lost(self) -> np.ndarray:
        """The integral of the falls over log factor, (pools,)."""
        found: np.ndarray = np.trapezoid(self.falls, self.side.distance, axis=1)
        return found

    def head(self, quantity: str, censored: float) -> dict[str, Any]:
        """The columns before an estimate."""
        shares = {"censored": censored, "non_finite": self.side.non_finite}
        return {**self.side.key, "quantity": quantity, "reach": float(self.side.factors[-1]), **shares}


def scale_sensitivity(
    candidates: pd.DataFrame,
    *,
    a: str = "",
    b: str = "",
    drop: float = 0.05,
    margin: float | None = None,
) -> pd.DataFrame:
    """Accuracy lost over the factors on members' weights, each side of 1 apart, per population, size, label and arm.

    Areas: the mean over log c, from 1 to the last factor `reach`, of accuracy at 1 minus accuracy at c (trapezoids);
    mean in each pool, then t over pools, against 0. Critical factors: where a pool's mean curve first falls `drop`
    below its accuracy at 1, log-linear between factors; the median over pools, with the distribution-free interval
    between two order statistics, infinite below 6 pools. A pool that never falls so far is censored (their share is
    `censored`) and counts as beyond all others: where more than half are, the median is infinite above 1, 0 below 1.
    Outputs that overflow are no accuracies (`non_finite`: their share of the side's rows). A factor at which most
    subsets overflow ends the range before it; a subset that overflows within the range has no area to be compared
    with the others', so it is left out and counted, as is one with a row that failed or is missing.

    With the labels `a` and `b`: the area of `a` minus that of `b`, paired by subset, where both were scaled alike;
    `single` stands for the mean of the subset's members. The arm tells which members are multiplied.
    Raises AnalysisError for a missing column, duplicated rows, or a label that no scaled row has.
    """
    if not drop > 0:
        raise AnalysisError("drop", f"{drop} is not above 0", "it is a loss of accuracy, as a fraction")
    paired = bool(a or b)
    if paired and not (a and b):
        raise AnalysisError("labels", "a difference takes both `a` and `b`", "name the two methods to compare")
    rows = scaled(candidates)
    answers = []
    for one in measured(_paired(rows, a, b) if paired else rows):
        answers += [_area(one, margin)] if paired else [_area(one, margin), _critical(one, drop)]
    return pd.DataFrame(answers)


def area_per_pool(
    candidates: pd.DataFrame, a: str, b: str, *, arm: str = "all"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The area of `a` minus that of `b` in one arm, both sides of 1 as one range: a `value` per pool, mean over sizes.

    Columns: population, pool_id, value; beside them, what was left out. A pool must have every side that its group has.
    Errors as of `scale_sensitivity`, and NothingToDrawError where no pool has both labels.
    """
    rows = scaled(candidates)
    rows = rows[rows["arm"] == arm]
    if rows.empty:
        raise NothingToDrawError("candidates", f"no rows with the arm `{arm}`")
    found = measured(_paired(rows, a, b))
    parts = [
        one.names.iloc[one.pools].assign(size=one.side.key["n_members"], lost=one.lost, span=one.span, sides=1)
        for one in found
    ]
    ranges = pd.concat(parts).groupby([*UNIT, "size"], sort=True)[["lost", "span", "sides"]].sum()
    whole = ranges["sides"] == ranges.groupby(["population", "size"])["sides"].transform("max")
    areas = (ranges["lost"] / ranges["span"])[whole]
    if areas.empty:
        raise NothingToDrawError("candidates", f"no subset has both `{a}` and `{b}` at all factors")
    told = dict.fromkeys(text for one in found for text in one.told)
    return areas.groupby(level=list(UNIT), sort=True).mean().rename("value").reset_index(), tuple(told)


def scaled(candidates: pd.DataFrame) -> pd.DataFrame:
    """The magnified rows with their accuracy as `value`, and `reason`."""
    require(candidates, [*UNIT, *FIXED, "space", "n_members", "status", "accuracy"])
    rows = select_comparison(candidates)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    rows = magnified(rows)
    return rows.assign(value=rows["accuracy"].astype(float), reason=exclusion_reason(rows, "accuracy"))


def measured(rows: pd.DataFrame) -> list[Measured]:
    """Every group's sides, with the mean curves of their pools."""
    found, names = sides(rows, BY)
    counted = names.iloc[np.concatenate([side.pools for side in found])].assign(
        group=np.repeat(np.arange(len(found)), [len(side.pools) for side in found]),
        reason=np.concatenate([side.reasons for side in found]),
    )
    told = exclusion_warnings(counted, len(found), "subset")
    return [_curves(side, names, texts) for side, texts in zip(found, told, strict=True)]


def _paired(rows: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """The rows of `a` with their accuracy minus that of `b` on the same subset, arm and factor."""
    first, second = _of(rows, a), _of(rows, b)
    if second["n_members"].max() == 1:
        second = _mean_members(first, second)
    elif first["n_members"].max() == 1:
        first = _mean_members(second, first)
    first = first[first["arm"].isin(set(second["arm"]))]
    if first.empty:
        raise AnalysisError("rows", f"`{a}` and `{b}` were not scaled alike", "compare methods of one `scalings` entry")
    both = first.merge(second[[*POINT, "value", "reason"]], "left", on=POINT, suffixes=("", "_b"))
    other = both["reason_b"].fillna("only one of the two was evaluated")
    reason = both["reason"].where(both["reason"] != "", other)
    return both.assign(value=both["value"] - both["value_b"], reason=reason, label=f"{a} minus {b}")


def _of(rows: pd.DataFrame, label: str) -> pd.DataFrame:
    """The rows of a label."""
    found = rows[rows["label"] == label]
    if found.empty:
        raise AnalysisError("rows", f"no scaled rows of `{label}`", suggestion(label, sorted(set(rows["label"]))))
    return found


def _mean_members(merges: pd.DataFrame, single: pd.DataFrame) -> pd.DataFrame:
    """The merges' rows with the mean accuracy of their single members, each of them multiplied; where those were."""
    merges = merges[merges["arm"].isin(set(single["arm"]))]
    each = merges[[*POINT, "members"]].explode("members")
    own = single[[*POINT, "value", "reason"]].rename(columns={"subset": "members"})
    each = each.merge(own, "left", on=[*UNIT, "members", "arm", "scaling_factor"])
    each = each.assign(reason=each["reason"].fillna("a single member is missing"))
    # The empty reason is the smallest text: one member that is lost loses the subset.
    means = each.groupby(POINT).agg({"value": "mean", "reason": "max"})
    return merges.drop(columns=["value", "reason"]).merge(means.reset_index(), on=POINT)


def _curves(side: Side, names: pd.DataFrame, texts: list[str]) -> Measured:
    """The mean curve of every pool over its subsets that are used."""
    used = side.reasons == ""
    pools, place = np.unique(side.pools[used], return_inverse=True)
    falls = np.zeros((len(pools), len(side.factors)))
    np.add.at(falls, place, side.accuracy[used, :1] - side.accuracy[used])
    falls /= np.bincount(place, minlength=len(pools))[:, None]
    falls[np.abs(falls) <= ROUNDING] = 0.0
    if side.overflow is not None:
        end = f"the range ends at {side.factors[-1]:g}"
        texts = [*texts, f"most subsets overflow at a factor of {side.overflow:g}: {end}"]
    return Measured(side, names, pools, falls, tuple(texts))


def _area(one: Measured, margin: float | None) -> dict[str, Any]:
    """The row of the area."""
    areas = one.lost / one.span if len(one.falls) else np.zeros(0)
    told = unit_mean(areas, Question("accuracy lost, mean over log factor", null=0.0, margin=margin), one.told)
    return {**one.head(f"area {one.side.name}", math.nan), **asdict(told)}


def _critical(one: Measured, drop: float) -> dict[str, Any]:
    """The row of the critical factor."""
    side = one.side
    crossings = np.sort([crossing(side.distance, fall, drop) for fall in one.falls])
    n, beyond = len(crossings), int(np.isinf(crossings).sum())
    told = list(one.told)
    if beyond:
        so = ": the median lies beyond" if 2 * beyond > n else ""
        told.append(f"{beyond} of {n} pools lose less than {drop:g} up to a factor of {side.factors[-1]:g}{so}")
    if n < FEWEST:
        few = {0: "no pool: nothing to estimate", 1: "one pool: no interval can be given"}
        told.append(few.get(n, f"{n} pools: a median has a 95% interval from {FEWEST} pools on"))
    middle, low, high = median_interval(crossings)
    low, high = sorted([side.factor(low), side.factor(high)]) if n >= FEWEST else (-math.inf, math.inf)
    what, nan = f"factor at which {drop:g} of accuracy is lost, median", math.nan
    found = Estimate(what, "pool", n, side.factor(middle), nan, nan, low, high, None, None, None, "", tuple(told))
    return {**one.head(f"critical factor {side.name}", beyond / n if n else nan), **asdict(found)}


def crossing(distance: np.ndarray, fall: np.ndarray, drop: float) -> float:
    """Where a fall first reaches `drop`, on the line between two points; infinite where it never does."""
    reached = np.flatnonzero(fall >= drop)
    if not len(reached):
        return math.inf
    after = int(reached[0])
    before = after - 1
    share = (drop - fall[before]) / (fall[after] - fall[before])
    return float(distance[before] + share * (distance[after] - distance[before]))


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The median of sorted values, some of which may be infinite, with the narrowest pair of values that covers it.

    Each value is below the median of its distribution with chance 1/2, so the k-th from each end miss it with a
    binomial chance: of at most 5% from 6 values on, below that the interval is infinite.
    """
    n = len(values)
    if not n:
        return math.nan, -math.inf, math.inf
    middle = float((values[(n - 1) // 2] + values[n // 2]) / 2)
    if n < FEWEST:
        return middle, -math.inf, math.inf
    k = max(k for k in range(1, n // 2 + 1) if bdtr(k - 1, n, 0.5) <= (1 - LEVEL) / 2)
    return middle, float(values[k - 1]), float(values[n - k])
