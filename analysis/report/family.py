"""The family of claims that are confirmed together, and their verdicts, corrected for its size and earlier looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy.special import stdtrit

from analysis.inference.estimate import INCONCLUSIVE, LEVEL, Estimate, margin_p_values
from analysis.inference.finding import Finding, PoolValues
from analysis.inference.max_t import FEWEST, critical_t, flipped_t, stepwise_p
from analysis.inference.power import MOST_POOLS, Effect, Needs, pools_needed
from analysis.inference.sequential import SAME, Stage, nominal_level, p_over_looks
from analysis.inference.verdict import adjust_p_values, size_warning, verdict_of_adjusted
from analysis.report.looks import Look, earlier_looks, pools_by_population
from analysis.rows.declared import PoolPlan

ALPHA = 1 - LEVEL
_DIGITS = 10
"""Digits to which values of two claims agree that are one estimate."""


@dataclass(frozen=True)
class History:
    """The planned pools, and the looks that were recorded before; without looks, every claim is looked at first."""

    plan: PoolPlan = field(default_factory=PoolPlan)
    looks: Sequence[Look] = ()


@dataclass(frozen=True)
class Judgement:
    """A finding with corrected p and verdict, its simultaneous interval, earlier looks, and the pools that it needs.

    The simultaneous intervals of a family hold together, at all looks, with a probability of 95%. `level` is that of
    one claim at this look, whatever the other claims are.
    """

    finding: Finding
    simultaneous: tuple[float, float]
    earlier: tuple[Look, ...]
    needs: Needs | None
    level: float


@dataclass(frozen=True)
class _Case:
    """A finding with its earlier looks, and one stage for each number of pools that its claim was looked at with."""

    finding: Finding
    earlier: tuple[Look, ...]
    counted: tuple[Look, ...]
    stages: tuple[Stage, ...]
    kept: float

    @property
    def estimate(self) -> Estimate:
        """The estimate of the present look, not corrected."""
        return self.finding.values.estimate

    @property
    def is_tested(self) -> bool:
        """Whether the estimate has a p of any test: against zero, or of equivalence where no test image differs."""
        return self.estimate.p is not None or self.estimate.p_equivalent is not None

    @property
    def is_final(self) -> bool:
        """Whether this is the first look, and has all planned pools."""
        return len(self.stages) == 1 and self.stages[0].share >= 1 - SAME

    def p_values(self) -> list[float]:
        """The p that the effect is zero, outside the margin and inside it, over all looks; NaN for a missing one."""
        within, beyond = margin_p_values(self.estimate, self.finding.values.question.null)
        same = [np.sign(look.estimate) == np.sign(self.estimate.estimate) for look in self.counted]
        earlier = [(look.p, look.p_within, look.p_beyond) for look in self.counted]
        found = []
        for place, (now, sides) in enumerate(((self.estimate.p, 2), (within, 1), (beyond, 2))):
            before = [row[place] if alike or sides == 1 else None for row, alike in zip(earlier, same, strict=True)]
            p_values = [math.nan if p is None else p for p in (*before, now)]
            found.append(p_over_looks(p_values, self.stages, self.kept, sides))
        return found


def families(tables: Mapping[str, tuple[str, ...]], declared: Sequence[str] | None) -> list[list[str]]:
    """The claims that are corrected together, from the tables of each claim with a finding.

    These are the declared ones; if none were declared, all those that read the same tables.
    """
    if declared is not None:
        return [[name for name in tables if name in declared]]
    return [[name for name in tables if tables[name] == each] for each in sorted(set(tables.values()))]


def judge_family(findings: Mapping[str, Finding], history: History) -> dict[str, Judgement]:
    """The findings of a family, each with the verdict that holds for the family and over all looks together.

    Claims with the same values in the same pools count once. Differences from zero are corrected by stepwise max-t over
    sign flips of pools (Romano and Wolf 2005) if every claim is at its first look, with all planned and at least 8
    pools; else by Holm's method, as are the tests against the margin.
    """
    cases = {name: _case(name, finding, history) for name, finding in findings.items()}
    once = dict(zip(cases, _representatives(cases), strict=True))
    known = {name: one for name, one in cases.items() if once[name] == name and one.is_tested}
    flips = _flips([one for one in known.values() if one.estimate.p is not None])
    p_values = _corrected(known, flips)
    size = size_warning(len(set(once.values())))
    found = {}
    for name, case in cases.items():
        p = p_values.get(once[name], (math.nan, math.nan, math.nan))
        estimate = case.estimate
        warnings = (*estimate.warnings, size) if size else estimate.warnings
        verdict = estimate.verdict and verdict_of_adjusted(*p)
        adjusted = None if math.isnan(p[0]) else p[0]
        corrected = replace(estimate, p_adjusted=adjusted, verdict=verdict, warnings=warnings)
        needs = _needs(case, p_values) if verdict == INCONCLUSIVE and adjusted is not None else None
        finding = replace(case.finding, corrected=corrected)
        level = nominal_level(ALPHA / max(len(known), 1), case.stages, case.kept)
        found[name] = Judgement(finding, _simultaneous(case, len(known), flips), case.earlier, needs, level)
    return found


def _case(name: str, finding: Finding, history: History) -> _Case:
    """A finding with the looks at its claim: one stage for each smaller number of pools that had a p, then now."""
    earlier = earlier_looks(history.looks, name, finding.values)
    counts = pools_by_population(finding.values)
    pools = sum(counts.values())
    last = {look.pools: look for look in earlier if look.pools < pools and look.p is not None}
    first = next((look.by_population for look in earlier if look.p is not None), counts)
    counted: list[Look] = []
    stages: list[Stage] = []
    for look in (last[n] for n in sorted(last)):
        stage = _stage(look.by_population, history.plan.share(look.by_population, first))
        if not stages or stage.share > stages[-1].share + SAME:
            stages.append(stage)
            counted.append(look)
    present = _stage(counts, history.plan.share(counts, first))
    while stages and stages[-1].share >= present.share - SAME:
        stages.pop()
        counted.pop()
    return _Case(finding, earlier, tuple(counted), (*stages, present), history.plan.kept)


def _stage(counts: Mapping[str, int], share: float) -> Stage:
    """The stage of a look with these pools."""
    pools = sum(counts.values())
    return Stage(share, pools, float(max(pools - len(counts), 1)))


def _representatives(cases: Mapping[str, _Case]) -> list[str]:
    """For each claim the first with the same pools, and the same values up to their sign, to 10 digits."""
    first: dict[object, str] = {}
    return [first.setdefault(_identity(case.finding.values), name) for name, case in cases.items()]


def _identity(values: PoolValues) -> object:
    """What is equal for two claims that are one estimate."""
    frame = values.frame.assign(pool_id=values.frame["pool_id"].astype(str)).sort_values("pool_id")
    numbers = frame["value"].to_numpy(float)
    largest = float(np.abs(numbers).max(initial=0.0))
    sign = next((math.copysign(1.0, one) for one in numbers if abs(one) > largest * 10.0**-_DIGITS), 1.0)
    rounded = tuple(f"{sign * one:.{_DIGITS - 1}e}" for one in numbers)
    shares = None if values.shares is None else tuple(sorted(values.shares.items()))
    return tuple(frame["pool_id"]), rounded, values.question.margin, values.question.null, shares


def _flips(cases: Sequence[_Case]) -> np.ndarray | None:
    """|t| of the claims under sign flips of pools, (choices, claims); None where stepwise max-t does not apply."""
    enough = all(case.is_final and case.stages[0].pools >= FEWEST for case in cases)
    centred = all(case.finding.values.question.null == 0 for case in cases)
    if len(cases) < 2 or not enough or not centred:
        return None
    columns = [_column(case.finding.values) for case in cases]
    pools = sorted(set().union(*columns))
    populations = sorted({population for population, _ in pools})
    values = np.array([[column.get(pool, math.nan) for column in columns] for pool in pools])
    shares = np.array([_shares(case.finding.values, populations) for case in cases]).T
    return flipped_t(values, np.array([populations.index(one) for one, _ in pools]), shares)


def _column(values: PoolValues) -> dict[tuple[str, str], float]:
    """The value of each pool, by population and id, in the populations that the estimate uses."""
    rows = values.used[["population", "pool_id", "value"]].itertuples(index=False)
    return {(str(population), str(pool)): float(value) for population, pool, value in rows}


def _shares(values: PoolValues, populations: Sequence[str]) -> list[float]:
    """The weight of the mean of each population in the estimate; 0 for one that it does not use."""
    weights = {str(name): weight for name, weight in values.weights.items()}
    return [weights.get(name, 0.0) for name in populations]


def _corrected(cases: Mapping[str, _Case], flips: np.ndarray | None) -> dict[str, tuple[float, float, float]]:
    """The three p values of each claim, corrected for the number of claims, each kind among its own."""
    if not cases:
        return {}
    table = np.array([case.p_values() for case in cases.values()])
    columns = [adjust_p_values(column, "holm") for column in table.T]
    if flips is not None:
        tested = [case for case in cases.values() if case.estimate.p is not None]
        t = np.array([abs(case.estimate.estimate) / case.estimate.se for case in tested])
        kept = np.array([case.kept for case in tested])
        columns[0][~np.isnan(columns[0])] = np.minimum(stepwise_p(t, flips) / (1 - kept), 1.0)
    rows = np.column_stack(columns).tolist()
    return {name: (zero, within, beyond) for name, (zero, within, beyond) in zip(cases, rows, strict=True)}


def _simultaneous(case: _Case, claims: int, flips: np.ndarray | None) -> tuple[float, float]:
    """The interval that holds together with those of the other claims and at all looks: max-t's or Bonferroni's."""
    estimate = case.estimate
    if estimate.p is None or claims == 0:
        return estimate.low, estimate.high
    if flips is not None:
        half = critical_t(flips, ALPHA * (1 - case.kept)) * estimate.se
    else:
        level = nominal_level(ALPHA / claims, case.stages, case.kept)
        half = -float(stdtrit(estimate.df, level / 2)) * estimate.se if level > 0 else math.inf
    return estimate.estimate - half, estimate.estimate + half


def _needs(case: _Case, p_values: Mapping[str, tuple[float, float, float]]) -> Needs | None:
    """The pools that would decide a claim at the level that the undecided claims of its family have."""
    differences = sum(p[0] >= ALPHA for p in p_values.values())
    equivalences = sum(p[1] >= ALPHA for p in p_values.values())
    alphas = (ALPHA / max(differences, 1), ALPHA / max(equivalences, 1))
    present = case.stages[-1]
    estimate = case.estimate
    populations = len(pools_by_population(case.finding.values))
    effect = Effect(
        estimate.estimate - (case.finding.values.question.null or 0.0),
        estimate.se * math.sqrt(present.pools),
        estimate.df,
        estimate.margin,
        populations,
    )
    last = MOST_POOLS if case.kept else math.floor(populations + present.df / present.share + SAME)
    found = pools_needed(effect, partial(_levels, case, alphas), present.pools, last)
    if found is not None:
        return found
    another = pools_needed(effect, lambda _: alphas, 0)
    return None if another is None else replace(another, is_new_run=True)


def _levels(case: _Case, alphas: tuple[float, float], pools: int) -> tuple[float, float]:
    """The levels of the tests of a difference and of equivalence at a next look with this number of pools."""
    present = case.stages[-1]
    spare = present.pools - present.df
    df = pools - spare
    stages = (*case.stages, Stage(present.share * df / present.df, pools, df))
    return nominal_level(alphas[0], stages, case.kept), nominal_level(alphas[1], stages, case.kept, 1)
