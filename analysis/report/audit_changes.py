"""What each defect of a protocol changes in the effect that a claim asks about, pool by pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import pandas as pd

from analysis.inference.estimate import EQUIVALENT, INCONCLUSIVE, Estimate
from analysis.inference.finding import PoolValues
from analysis.inference.verdict import adjust_and_judge
from analysis.rows.protocols import PREFIXES, short

CHANGED = "changed"
UNCHANGED = "unchanged"
OPEN = "open"


@dataclass(frozen=True)
class Change:
    """The effect under a defect minus that under the correct protocol, in the same pools.

    `verdict` is `changed` (the difference is not zero), `unchanged` (it is within the margin) or `open`.
    """

    estimate: Estimate
    verdict: str


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
        found[name] = Change(one, _verdict(one))
    return found


def _verdict(change: Estimate) -> str:
    """The verdict on a change; one that is exactly zero in every pool is none, though it has no p."""
    if change.verdict == EQUIVALENT or (change.estimate == 0 and change.se == 0):
        return UNCHANGED
    return OPEN if change.verdict == INCONCLUSIVE else CHANGED


def summary(changes: Mapping[str, Change]) -> str:
    """The changes by defects in a few words; `nested_prefixes` alone, a choice of subsets, is no audit."""
    defects = {name: change for name, change in changes.items() if name != PREFIXES}
    if not defects:
        return "not audited"
    changed = [short(name) for name, change in defects.items() if change.verdict == CHANGED]
    n_open = sum(change.verdict == OPEN for change in defects.values())
    parts = [f"changes under {', '.join(changed)}"] if changed else []
    parts += [f"open under {n_open} of {len(defects)} defects"] if n_open else []
    return "; ".join(parts) or "does not change by more than the margin"
