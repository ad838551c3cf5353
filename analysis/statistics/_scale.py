"""Accuracy drops of merges with scaled members, per pool; shared by `scale_sensitivity`, `dominance` and claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.inference.estimate import ROUNDING
from analysis.rows.pairing import exclusion_warnings
from analysis.rows.scale import Side, magnified, sides
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, require, select_comparison
from sweep.core.text import did_you_mean

BY = ["population", "n_members", "space", "label", "arm"]
POINT = [*UNIT, "subset", "arm", "scaling_factor"]


@dataclass(frozen=True)
class SideResult:
    """One side of a group: `accuracy_drops` (pools, factors) is accuracy at factor 1 minus accuracy at each factor.

    `pools` are their positions in `names`.
    """

    side: Side
    names: pd.DataFrame
    pools: np.ndarray
    accuracy_drops: np.ndarray
    warnings: tuple[str, ...]

    @property
    def span(self) -> float:
        """The length of the range in log factor."""
        return float(self.side.distance[-1])

    @property
    def drop_area(self) -> np.ndarray:
        """The integral of the accuracy drops over log factor, (pools,)."""
        found: np.ndarray = np.trapezoid(self.accuracy_drops, self.side.distance, axis=1)
        return found

    def columns(self, quantity: str, censored: float) -> dict[str, Any]:
        """The columns before an estimate."""
        shares = {"censored": censored, "non_finite": self.side.non_finite}
        return {**self.side.key, "quantity": quantity, "reach": float(self.side.factors[-1]), **shares}


def area_per_pool(
    candidates: pd.DataFrame, a: str, b: str, *, arm: str = "all"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The area of `a` minus that of `b` in one arm, both sides of 1 as one range: a `value` per pool, mean over sizes.

    Columns: population, pool_id, value; also returns warnings. A pool must have every side that its group has.
    Errors as of `scale_sensitivity`, and NothingToDrawError if no pool has both labels.
    """
    rows = scaled_rows(candidates)
    rows = rows[rows["arm"] == arm]
    if rows.empty:
        raise NothingToDrawError("candidates", f"no rows with the arm `{arm}`")
    found = side_results(paired_by_subset(rows, a, b))
    parts = [
        one.names.iloc[one.pools].assign(
            size=one.side.key["n_members"], drop_area=one.drop_area, span=one.span, sides=1
        )
        for one in found
    ]
    ranges = pd.concat(parts).groupby([*UNIT, "size"], sort=True)[["drop_area", "span", "sides"]].sum()
    whole = ranges["sides"] == ranges.groupby(["population", "size"])["sides"].transform("max")
    areas = (ranges["drop_area"] / ranges["span"])[whole]
    if areas.empty:
        raise NothingToDrawError("candidates", f"no subset has both `{a}` and `{b}` at all factors")
    warnings = dict.fromkeys(text for one in found for text in one.warnings)
    return areas.groupby(level=list(UNIT), sort=True).mean().rename("value").reset_index(), tuple(warnings)


def scaled_rows(candidates: pd.DataFrame) -> pd.DataFrame:
    """The magnified rows with their accuracy as `value`, and `reason`."""
    require(candidates, [*UNIT, *FIXED, "space", "n_members", "status", "accuracy"])
    rows = select_comparison(candidates)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    rows = magnified(rows)
    return rows.assign(value=rows["accuracy"].astype(float), reason=exclusion_reason(rows, "accuracy"))


def side_results(rows: pd.DataFrame) -> list[SideResult]:
    """Every group's sides, with the mean curves of their pools."""
    found, names = sides(rows, BY)
    counted = names.iloc[np.concatenate([side.pools for side in found])].assign(
        group=np.repeat(np.arange(len(found)), [len(side.pools) for side in found]),
        reason=np.concatenate([side.reasons for side in found]),
    )
    warnings = exclusion_warnings(counted, len(found), "subset")
    return [_side_result(side, names, texts) for side, texts in zip(found, warnings, strict=True)]


def paired_by_subset(rows: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """The rows of `a` with their accuracy minus that of `b` on the same subset, arm and factor."""
    first = _label_rows(rows, a)
    second = _label_rows(rows, b)
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


def _label_rows(rows: pd.DataFrame, label: str) -> pd.DataFrame:
    """The rows of a label."""
    found = rows[rows["label"] == label]
    if found.empty:
        raise AnalysisError("rows", f"no scaled rows of `{label}`", did_you_mean(label, sorted(set(rows["label"]))))
    return found


def _mean_members(merges: pd.DataFrame, single: pd.DataFrame) -> pd.DataFrame:
    """The rows of the merges with the mean accuracy of their single members, scaled in the same way."""
    merges = merges[merges["arm"].isin(set(single["arm"]))]
    each = merges[[*POINT, "members"]].explode("members")
    own = single[[*POINT, "value", "reason"]].rename(columns={"subset": "members"})
    each = each.merge(own, "left", on=[*UNIT, "members", "arm", "scaling_factor"])
    each = each.assign(reason=each["reason"].fillna("a single member is missing"))
    # The empty reason is the smallest text: one missing member excludes the subset.
    means = each.groupby(POINT).agg({"value": "mean", "reason": "max"})
    return merges.drop(columns=["value", "reason"]).merge(means.reset_index(), on=POINT)


def _side_result(side: Side, names: pd.DataFrame, texts: list[str]) -> SideResult:
    """The mean curve of every pool over its usable subsets."""
    used = side.reasons == ""
    pools, place = np.unique(side.pools[used], return_inverse=True)
    accuracy_drops = np.zeros((len(pools), len(side.factors)))
    np.add.at(accuracy_drops, place, side.accuracy[used, :1] - side.accuracy[used])
    accuracy_drops /= np.bincount(place, minlength=len(pools))[:, None]
    accuracy_drops[np.abs(accuracy_drops) <= ROUNDING] = 0.0
    if side.overflow is not None:
        end = f"the range ends at {side.factors[-1]:g}"
        texts = [*texts, f"most subsets overflow at a factor of {side.overflow:g}: {end}"]
    return SideResult(side, names, pools, accuracy_drops, tuple(texts))
