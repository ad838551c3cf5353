"""What each defect of a protocol changes in the effect that a claim asks about, pool by pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd

from analysis.display import numbers
from analysis.inference.estimate import EQUIVALENT, INCONCLUSIVE, LEVEL, Estimate, margin_p_values
from analysis.inference.finding import PoolValues
from analysis.inference.verdict import adjust_and_judge
from analysis.report.claim_cells import hochberg
from analysis.rows.protocols import PREFIXES, short

CHANGED = "changed"
UNCHANGED = "unchanged"
OPEN = "open"


@dataclass(frozen=True)
class Change:
    """The effect under a defect minus that under the correct protocol, in the same pools.

    `verdict` is `changed` (the difference is not zero), `unchanged` (it is within the margin) or `open`. `populations`
    has the change of each of several populations, which their mean may hide. Only one of the two effects is about
    those in `incomparable`, for example since the defect brings them to chance.
    """

    estimate: Estimate
    verdict: str
    populations: Mapping[str, float] = field(default_factory=dict)
    incomparable: tuple[str, ...] = ()

    @property
    def acts(self) -> bool:
        """Whether the defect changes the effect at all, by however little."""
        return self.estimate.estimate != 0 or self.estimate.se != 0 or any(self.populations.values())

    def words(self, scale: float) -> str:
        """The changes of populations, and which have none, in words; empty where the mean says all."""
        each = [f"{name} {numbers.signed(scale * value, 2)}" for name, value in self.populations.items()]
        return "; ".join([*each, *([f"not comparable: {', '.join(self.incomparable)}"] if self.incomparable else [])])


def effect_changes(
    correct: PoolValues, defects: Mapping[str, PoolValues], pool_numbers: Mapping[str, int]
) -> dict[str, Change]:
    """The change by each defect with common pools, corrected for the number of defects (Holm)."""
    differences = {name: values.minus(correct, pool_numbers) for name, values in defects.items()}
    estimates = {name: values.estimate for name, values in differences.items() if len(values.frame)}
    if not estimates:
        return {}
    judged = adjust_and_judge(pd.DataFrame([asdict(one) for one in estimates.values()]), "holm")
    found = {}
    for (name, estimate), row in zip(estimates.items(), judged.itertuples(), strict=True):
        adjusted = None if math.isnan(row.p_adjusted) else float(row.p_adjusted)
        one = replace(estimate, p_adjusted=adjusted, verdict=str(row.verdict))
        verdict = _verdict(one, differences[name], (1 - LEVEL) / len(estimates))
        found[name] = Change(one, verdict, *_by_population(differences[name], correct, defects[name]))
    return found


def _by_population(
    change: PoolValues, correct: PoolValues, defect: PoolValues
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The change of each of several populations, and the populations that only one of the effects is about."""
    names, own, others = (sorted(set(one.used["population"].astype(object))) for one in (change, correct, defect))
    is_mean = len(names) > 1 and change.shares is None
    each = {name: change.only([name]).estimate.estimate for name in names} if is_mean else {}
    return each, tuple(name for name in sorted({*own, *others}) if name not in names)


def _verdict(change: Estimate, values: PoolValues, level: float) -> str:
    """The verdict on a change; one that is exactly zero in every pool is none, though it has no p.

    The changes of several populations are not averaged: it is unchanged if each is, changed if one is (at `level`,
    each kind of test corrected for their number by Hochberg), else open.
    """
    names = sorted(set(values.frame["population"].astype(object)))
    if len(names) > 1 and values.shares is None:
        return _of_populations([values.only([name]).estimate for name in names], level)
    if change.verdict == EQUIVALENT or (change.estimate == 0 and change.se == 0):
        return UNCHANGED
    return OPEN if change.verdict == INCONCLUSIVE else CHANGED


def _of_populations(changes: list[Estimate], level: float) -> str:
    """The verdict on changes of several populations."""
    asked = [one for one in changes if one.estimate != 0 or one.se != 0]
    if not asked:
        return UNCHANGED
    within = [_known_p(margin_p_values(one)[0]) for one in asked]
    if max(within) < level:
        return UNCHANGED
    zero = hochberg(np.array([_known_p(one.p) for one in asked]))
    return CHANGED if zero.min() < level else OPEN


def _known_p(p: float | None) -> float:
    """A p, 1 where there is none."""
    return 1.0 if p is None or math.isnan(p) else p


def summary(changes: Mapping[str, Change]) -> str:
    """The changes by defects in a few words; `nested_prefixes` alone, a choice of subsets, is no audit."""
    defects = {name: change for name, change in changes.items() if name != PREFIXES}
    if not defects:
        return "not audited"
    acting = {name: change for name, change in defects.items() if change.acts}
    changed = [short(name) for name, change in defects.items() if change.verdict == CHANGED]
    n_open = sum(change.verdict == OPEN for change in defects.values())
    parts = [f"changes under {', '.join(changed)}"] if changed else []
    parts += [f"open under {n_open} of {len(acting)} defects"] if n_open else []
    incomparable = [short(name) for name, change in defects.items() if change.incomparable]
    parts = parts or ["does not change by more than the margin"]
    return "; ".join([*parts, *([f"of other populations under {', '.join(incomparable)}"] if incomparable else [])])
