"""Accuracy drops of merges with scaled members, per pool; shared by `scale_sensitivity`, `dominance` and claims.

Retention is the share of the accuracy above chance that is left: (accuracy at c - chance) / (accuracy at 1 - chance).
A network at chance cannot lose accuracy, and an accurate one has more to lose: absolute drops compare where curves
begin, retention compares their shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.inference.estimate import ROUNDING
from analysis.inference.few import near_ceiling
from analysis.rows.chance import N_CLASSES, clear_of_chance
from analysis.rows.linear import of_different_functions
from analysis.rows.pairing import group_warnings
from analysis.rows.scale import Side, magnified, sides
from analysis.rows.select import FIXED, UNIT, exclusion_reason, refuse_duplicates, require, select_comparison
from sweep.core.text import did_you_mean

BY = ["population", "n_members", "space", "label", "arm"]
POINT = [*UNIT, "subset", "arm", "scaling_factor"]
UNKNOWN_CHANCE = "chance is unknown: the run folder does not record the classes of the data set"


@dataclass(frozen=True)
class SideResult:
    """One side of a group; `pools` are positions in `names`.

    `accuracy_drops` (pools, factors) is accuracy at factor 1 minus accuracy at each factor, `retention_drops` the same
    as a share of the accuracy above chance at factor 1. It is NaN where `problem` says why it is not defined. `levels`
    (pools, factors) is the accuracy, the mean of both in a difference; `texts` are warnings but that of the ceiling.
    `ruined` (factors,) is True where the mean accuracy over pools is not clearly above chance, in a difference both.
    """

    side: Side
    names: pd.DataFrame
    pools: np.ndarray
    accuracy_drops: np.ndarray
    retention_drops: np.ndarray
    levels: np.ndarray
    ruined: np.ndarray
    problem: str
    texts: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was left out, and whether the mean accuracy is near the ceiling."""
        return (*self.texts, *near_ceiling(self.levels.ravel()))

    @property
    def is_at_chance(self) -> bool:
        """Whether accuracy at factor 1 is known not to be clearly above chance."""
        return bool(self.problem) and self.problem != UNKNOWN_CHANCE

    @property
    def span(self) -> float:
        """The length of the range in log factor."""
        return float(self.side.distance[-1])

    @property
    def drop_area(self) -> np.ndarray:
        """The integral of the accuracy drops over log factor, (pools,)."""
        return self._integral(self.accuracy_drops)

    @property
    def retention_area(self) -> np.ndarray:
        """The integral of the retention lost over log factor, (pools,)."""
        return self._integral(self.retention_drops)

    def _integral(self, curves: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.trapezoid(curves, self.side.distance, axis=1)
        return found

    def columns(self, quantity: str, censored: float) -> dict[str, Any]:
        """The columns before an estimate."""
        shares = {"censored": censored, "non_finite": self.side.non_finite}
        reach = {"reach": float(self.side.factors[-1]), "factors": factors_text(self.side.factors)}
        return {**self.side.key, "quantity": quantity, **reach, **shares}

    def cut(self, n_factors: int) -> SideResult:
        """The same with the first factors only."""
        return replace(
            self,
            side=replace(self.side, factors=self.side.factors[:n_factors], accuracy=self.side.accuracy[:, :n_factors]),
            accuracy_drops=self.accuracy_drops[:, :n_factors],
            retention_drops=self.retention_drops[:, :n_factors],
            levels=self.levels[:, :n_factors],
            ruined=self.ruined[:n_factors],
        )

    def minus(self, other: SideResult, label: str) -> SideResult:
        """The losses minus those of the same subsets under another label."""
        problems = dict.fromkeys(text for text in (self.problem, other.problem) if text)
        return replace(
            self,
            side=replace(self.side, key=self.side.key | {"label": label}),
            accuracy_drops=_without_rounding(self.accuracy_drops - other.accuracy_drops),
            retention_drops=_without_rounding(self.retention_drops - other.retention_drops),
            levels=(self.levels + other.levels) / 2,
            ruined=self.ruined & other.ruined,
            problem="; ".join(problems),
            texts=tuple(dict.fromkeys([*self.texts, *other.texts])),
        )


def _without_rounding(values: np.ndarray) -> np.ndarray:
    """The values, 0 where they differ from it by rounding."""
    return np.where(np.abs(values) <= ROUNDING, 0.0, values)


def factors_text(factors: np.ndarray) -> str:
    """The factors as text, in ascending order."""
    return ", ".join(f"{factor:g}" for factor in sorted(factors.tolist()))


@dataclass(frozen=True)
class Areas:
    """What `a` loses minus what `b` loses, mean over log factor on both sides of 1: a `value` per pool.

    `retention` and `accuracy` have the columns population, pool_id, value; `factors` is the range as text. `by_side`
    has the retention of each side of 1 alone, if there are two.
    """

    retention: pd.DataFrame
    by_side: dict[str, pd.DataFrame]
    accuracy: pd.DataFrame
    factors: str
    warnings: tuple[str, ...]


def area_per_pool(candidates: pd.DataFrame, a: str, b: str, *, arm: str = "all") -> Areas:
    """The areas of `a` minus those of `b` in one arm, both sides of 1 as one range, mean over sizes.

    Populations and sizes have equal factors and one range. It ends where the first of them overflows, or has both `a`
    and `b` at chance, where nothing is left to lose. A population and size in which `a` or `b` is at chance without
    scaling is left out, with a warning. A pool must have both sides of 1 if there are such factors. Errors as of
    `scale_sensitivity`; NothingToDrawError if no pool has both labels, if all are at chance or if chance is unknown,
    AnalysisError if populations or sizes were multiplied by different factors.
    """
    candidates, same = of_different_functions(candidates, a, b)
    rows = scaled_rows(candidates)
    rows = rows[rows["arm"] == arm]
    if rows.empty:
        raise NothingToDrawError("candidates", f"no rows with the arm `{arm}`")
    pairs = pair_by_subset(rows, a, b)
    results = paired_results(pairs, a, b)
    found = [one for one in results if len(one.pools)]
    left_out = [_left_out(one) for one in results if not len(one.pools)]
    if not found:
        raise NothingToDrawError("candidates", f"no subset has both `{a}` and `{b}` at all factors")
    asked = _above_chance(found)
    _refuse_other_factors(pairs, asked)
    parts, ends = _common_range(asked)
    each = pd.concat([_areas(one) for one in parts])
    names = sorted(set(each["side"]), reverse=True)
    each = each[each.groupby([*UNIT, "size"])["side"].transform("nunique") == len(names)]
    if each.empty:
        raise NothingToDrawError("candidates", f"no subset has both `{a}` and `{b}` at all factors")
    by_side = {name: _means(each[each["side"] == name], "retention") for name in names} if len(names) > 1 else {}
    factors = factors_text(np.unique(np.concatenate([one.side.factors for one in parts])))
    problems = dict.fromkeys(one.problem for one in found if one.problem)
    texts = dict.fromkeys([*same, *problems, *ends, *left_out, *(text for one in parts for text in one.texts)])
    ceiling = near_ceiling(np.concatenate([one.levels.ravel() for one in parts]))
    return Areas(_means(each, "retention"), by_side, _means(each, "accuracy"), factors, (*texts, *ceiling))


def _left_out(one: SideResult) -> str:
    """That a population and size has no pool on a side of 1, in words."""
    population, size = _place(one)
    why = f": {'; '.join(one.texts)}" if one.texts else ""
    return f"factors {one.side.name} are left out in {population}, {size} members{why}"


def _means(areas: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """The mean over log factor of each pool, mean over sizes: a `value` per pool."""
    sums = areas.groupby([*UNIT, "size"], sort=True)[[quantity, "span"]].sum()
    return (sums[quantity] / sums["span"]).groupby(level=list(UNIT), sort=True).mean().rename("value").reset_index()


def _areas(one: SideResult) -> pd.DataFrame:
    """The areas of a side, one row per pool."""
    sizes = {"size": one.side.key["n_members"], "span": one.span, "side": one.side.name}
    return one.names.iloc[one.pools].assign(retention=one.retention_area, accuracy=one.drop_area, **sizes)


def _above_chance(found: list[SideResult]) -> list[SideResult]:
    """The results of populations and sizes in which retention is defined. Raises NothingToDrawError without any."""
    problems = {_place(one): one.problem for one in found if one.problem}
    asked = [one for one in found if _place(one) not in problems]
    if not asked:
        texts = list(dict.fromkeys(problems.values()))
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        raise NothingToDrawError("candidates", texts[0] + more)
    return asked


def _place(one: SideResult) -> tuple[str, int]:
    """The population and the size of a result."""
    return one.side.key["population"], one.side.key["n_members"]


def _refuse_other_factors(rows: pd.DataFrame, found: list[SideResult]) -> None:
    """Raises AnalysisError if populations or sizes were multiplied by different factors."""
    places = {_place(one) for one in found}
    by_factors: dict[str, str] = {}
    for (population, size), group in rows.groupby(["population", "n_members"], sort=True, observed=True):
        if (population, size) in places:
            by_factors.setdefault(factors_text(group["scaling_factor"].unique()), f"{population}, {size} members")
    if len(by_factors) > 1:
        (one, here), (other, there) = list(by_factors.items())[:2]
        what = f"different factors are not compared: {one} in {here}; {other} in {there}"
        raise AnalysisError("rows", what, "give all populations and sizes the same factors, or analyse them apart")


def _common_range(found: list[SideResult]) -> tuple[list[SideResult], list[str]]:
    """The results on the factors that all have, and where both sides of a difference at chance end the range.

    Raises NothingToDrawError if the only factor that is left is 1.
    """
    lengths: dict[str, int] = {}
    for one in found:
        lengths[one.side.name] = min(_informative(one), lengths.get(one.side.name, len(one.side.factors)))
    texts = [_end_text(one) for one in found if _informative(one) < len(one.side.factors)]
    kept = [one.cut(lengths[one.side.name]) for one in found if lengths[one.side.name] > 1]
    if not kept:
        raise NothingToDrawError("candidates", texts[0] if texts else "most subsets overflow at every factor")
    return kept, texts


def _informative(one: SideResult) -> int:
    """The number of factors before the first one at which nothing is left to lose."""
    return int(one.ruined.argmax()) if one.ruined.any() else len(one.ruined)


def _end_text(one: SideResult) -> str:
    """Where a range ends because both networks are at chance, in words."""
    factor = one.side.factors[_informative(one)]
    population, size = _place(one)
    return f"both are at chance at a factor of {factor:g} in {population}, {size} members: the range ends before it"


def scaled_rows(candidates: pd.DataFrame) -> pd.DataFrame:
    """The magnified rows with their accuracy as `value`, `reason`, and `chance`, which is NaN if it is unknown."""
    require(candidates, [*UNIT, *FIXED, "space", "n_members", "status", "accuracy", "chance", "chance_source"])
    rows = select_comparison(candidates)
    refuse_duplicates(rows, [*UNIT, "subset", "label", *FIXED])
    rows = magnified(rows)
    return rows.assign(value=rows["accuracy"].astype(float), reason=exclusion_reason(rows, "accuracy"))


def side_results(rows: pd.DataFrame) -> list[SideResult]:
    """Every group's sides, with the mean curves of their pools."""
    found, names = sides(rows, BY)
    if not found:
        raise NothingToDrawError("candidates", "no rows without a scaling beside those with one")
    counted = names.iloc[np.concatenate([side.pools for side in found])].assign(
        group=np.repeat(np.arange(len(found)), [len(side.pools) for side in found]),
        reason=np.concatenate([side.reasons for side in found]),
    )
    warnings = group_warnings(counted, len(found), "subset")
    floors = _floors(rows, names)
    return [_side_result(side, names, floors, texts) for side, texts in zip(found, warnings, strict=True)]


@dataclass(frozen=True)
class _Floors:
    """Of every pool: `chance`, `least`, the accuracy from which a network is clearly above it, and `is_rough`.

    `is_rough` is True where chance is 1/classes, since class shares were not recorded.
    """

    chance: np.ndarray
    least: np.ndarray
    is_rough: np.ndarray


def _floors(rows: pd.DataFrame, names: pd.DataFrame) -> _Floors:
    """The floors of the pools in `names`."""
    firsts = rows.drop_duplicates(list(UNIT))[[*UNIT, "chance", "chance_source"]]
    found = names.merge(firsts, "left", on=list(UNIT))
    chance = found["chance"].to_numpy(float)
    examples = None
    if "n_examples" in rows:
        fewest = rows.groupby(list(UNIT), observed=True)["n_examples"].min().reset_index()
        examples = names.merge(fewest, "left", on=list(UNIT))["n_examples"].to_numpy(float, na_value=np.nan)
    return _Floors(chance, clear_of_chance(chance, examples), (found["chance_source"] == N_CLASSES).to_numpy(bool))


def paired_results(pairs: pd.DataFrame, a: str, b: str) -> list[SideResult]:
    """Every group's sides, with the losses of `a` minus those of `b` in their pools."""
    first = side_results(pairs)
    second = side_results(pairs.assign(value=pairs["value_b"], label=b))
    return [one.minus(other, f"{a} minus {b}") for one, other in zip(first, second, strict=True)]


def pair_by_subset(rows: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """The rows of `a` with the accuracy of `b` on the same subset, arm and factor as `value_b`."""
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
    return both.assign(label=a, reason=both["reason"].where(both["reason"] != "", other))


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
    # The empty reason is the smallest text: one missing member excludes the subset.
    codes, reasons = pd.factorize(each["reason"].fillna("a single member is missing").astype(object), sort=True)
    means = each.assign(reason=codes).groupby(POINT).agg({"value": "mean", "reason": "max"})
    means = means.assign(reason=np.asarray(reasons, dtype=object)[means["reason"]])
    return merges.drop(columns=["value", "reason"]).merge(means.reset_index(), on=POINT)


def _side_result(side: Side, names: pd.DataFrame, floors: _Floors, texts: list[str]) -> SideResult:
    """The mean curve of every pool over its usable subsets."""
    used = side.reasons == ""
    pools, place = np.unique(side.pools[used], return_inverse=True)
    accuracy = np.zeros((len(pools), len(side.factors)))
    np.add.at(accuracy, place, side.accuracy[used])
    accuracy /= np.bincount(place, minlength=len(pools))[:, None]
    drops = _without_rounding(accuracy[:, :1] - accuracy)
    chance = floors.chance[pools]
    problem = _chance_problem(side, accuracy[:, 0], chance, floors.least[pools])
    above = accuracy[:, :1] - chance[:, None]
    retention = np.full(drops.shape, np.nan) if problem else drops / above
    if side.overflow is not None:
        end = f"the range ends at {side.factors[-1]:g}"
        texts = [*texts, f"most subsets overflow at a factor of {side.overflow:g}: {end}"]
    if floors.is_rough[pools].any():
        texts = [*texts, "chance is 1/classes: the run folder records no class shares"]
    ruined = accuracy.mean(axis=0) < floors.least[pools].mean() if len(pools) else np.zeros(len(side.factors), bool)
    return SideResult(side, names, pools, drops, retention, accuracy, ruined, problem, tuple(texts))


def _chance_problem(side: Side, unscaled: np.ndarray, chance: np.ndarray, least: np.ndarray) -> str:
    """Why retention is not defined: a pool is not clearly above chance at factor 1, or chance is unknown; or empty."""
    if np.isnan(chance).any():
        return UNKNOWN_CHANCE
    below = unscaled < least
    if not below.any():
        return ""
    who = "the merge is" if side.key["n_members"] > 1 and side.key["label"] != "single" else "single members are"
    about = f"{side.key['label']} in {side.key['population']}, {side.key['n_members']} members"
    levels = f"{unscaled[below].mean():.1%} at factor 1, chance {chance.mean():.1%}"
    return f"{who} at chance in {below.sum()} of {len(below)} pools: {about}: {levels}"
