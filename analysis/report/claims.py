"""Evaluate claims on a run: each has a question, one estimate that decides it, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from analysis.core import registry
from analysis.core.errors import AnalysisError
from analysis.display import numbers
from analysis.inference.estimate import BEYOND_MARGIN, DIFFERENT, EQUIVALENT, INCONCLUSIVE, Estimate
from analysis.inference.finding import Expected, Finding
from analysis.inference.power import pools_wanted
from analysis.inference.rope import margin_probabilities
from analysis.inference.verdict import adjust_and_judge
from analysis.report.audit_changes import Change, effect_changes, summary
from analysis.rows.protocols import CORRECT, protocols, rows_under
from analysis.rows.run import Run
from sweep.core.causes import describe

SUPPORTED = "supported"
REFUTED = "refuted"
VERDICTS = (SUPPORTED, REFUTED, EQUIVALENT, DIFFERENT, INCONCLUSIVE)


@dataclass(frozen=True)
class Answer:
    """A claim with its verdict.

    `needs` is the number of additional pools that would decide it; None if it is decided or the number is unknown.
    `missing` is the reason if there is no verdict; `failed` is True if its computation ended in an error. `audited` has
    the same claim under every other protocol that has rows for it, `changes` what each of them changes in the effect.
    """

    name: str
    question: str
    quantity: str
    finding: Finding | None
    verdict: str
    needs: int | None = None
    missing: str = ""
    failed: bool = False
    audited: dict[str, Answer] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)


def answers(run: Run) -> list[Answer]:
    """Every claim of the folder evaluated on a run; Holm's correction is over the claims on the same tables.

    The margin is that of the run's configuration. An answer without a finding has the reason in `missing`.
    """
    found = _evaluate_all(run, rows_under(run.candidates, CORRECT))
    others = [name for name in protocols(run.candidates) if name != CORRECT]
    audited = {name: _evaluate_all(run, rows_under(run.candidates, name)) for name in others}
    numbers = dict(zip(run.candidates["pool_id"].astype(object), run.candidates["pool"].tolist(), strict=True))
    return [
        _with_audit(one, {name: rows[place] for name, rows in audited.items() if rows[place].verdict}, numbers)
        if "candidates" in _tables(one.name)
        else one
        for place, one in enumerate(found)
    ]


def _with_audit(answer: Answer, audited: dict[str, Answer], pool_numbers: dict[str, int]) -> Answer:
    """The claim with its answers under other protocols, and what these change."""
    if answer.finding is None:
        return replace(answer, audited=audited)
    defects = {name: one.finding.values for name, one in audited.items() if one.finding}
    return replace(answer, audited=audited, changes=effect_changes(answer.finding.values, defects, pool_numbers))


def _tables(name: str) -> tuple[str, ...]:
    """The tables that a claim reads."""
    return tuple(registry.tables(registry.get_plugin("claims", name)))


def _evaluate_all(run: Run, candidates: pd.DataFrame) -> list[Answer]:
    """Every claim on the given rows; claims on the same tables are one family for Holm's correction."""
    tables = {"candidates": candidates}
    raw = [_evaluate(name, run, tables) for name in registry.list_plugins("claims")]
    for family in sorted({_tables(one.name) for one in raw}):
        raw = _judge_family(raw, family)
    return raw


def _judge_family(raw: list[Answer], tables: tuple[str, ...]) -> list[Answer]:
    """The claims; those on these tables get the verdicts of their family."""
    family = [one for one in raw if one.finding and _tables(one.name) == tables]
    if not family:
        return raw
    estimates = pd.DataFrame([asdict(one.finding.estimate) for one in family if one.finding])
    rows = adjust_and_judge(estimates, "holm").itertuples()
    known = {one.name: _with_verdict(one, row) for one, row in zip(family, rows, strict=True)}
    return [known.get(one.name, one) for one in raw]


def _evaluate(name: str, run: Run, tables: dict[str, pd.DataFrame]) -> Answer:
    """One claim, still without a verdict."""
    function = registry.get_plugin("claims", name)
    paragraphs = [*registry.caption(function), ""]
    question = paragraphs[0]
    quantity = paragraphs[1]
    try:
        needed = {table: tables[table] if table in tables else run.table(table) for table in registry.tables(function)}
        finding: Finding = function(**needed, margin=run.margin)
        finding = replace(finding, corrected=finding.estimate)  # computed here, where an error costs this claim alone
    except AnalysisError as error:
        return Answer(name, question, quantity, None, "", missing=error.what)
    except Exception as error:  # one claim that fails must not cost the others
        return Answer(name, question, quantity, None, "", missing=f"it failed: {describe(error)}", failed=True)
    return Answer(name, question, quantity, finding, "")


def _with_verdict(answer: Answer, row: Any) -> Answer:
    """The claim with the verdict from its corrected row."""
    finding = answer.finding
    assert finding is not None
    adjusted = None if math.isnan(row.p_adjusted) else float(row.p_adjusted)
    estimate = replace(finding.estimate, p_adjusted=adjusted, verdict=row.verdict, warnings=tuple(row.warnings))
    verdict = claim_verdict(estimate, finding.expected)
    needs = _more_pools(estimate) if verdict == INCONCLUSIVE else None
    return replace(answer, finding=replace(finding, corrected=estimate), verdict=verdict, needs=needs)


def claim_verdict(estimate: Estimate, expected: Expected) -> str:
    """The verdict on a claim from the corrected verdict on its estimate.

    A claim of no difference is `supported` by an effect within the margin, `refuted` by one beyond it, and otherwise
    `different` (by an amount that may not matter) or `inconclusive`. A claim of a direction is `supported` or `refuted`
    by the sign, `equivalent` if the effect is within the margin, and otherwise `inconclusive`.
    """
    if estimate.verdict == INCONCLUSIVE:
        return INCONCLUSIVE
    if expected == "zero":
        return {EQUIVALENT: SUPPORTED, BEYOND_MARGIN: REFUTED}.get(estimate.verdict, DIFFERENT)
    if estimate.verdict == EQUIVALENT:
        return EQUIVALENT
    side: Expected = "above" if estimate.estimate > 0 else "below"
    return SUPPORTED if side == expected else REFUTED


def remark(answer: Answer) -> str:
    """What a verdict alone leaves open: whether the effect is larger than the margin; empty where it does not."""
    if answer.finding is None or answer.verdict not in (SUPPORTED, REFUTED, DIFFERENT):
        return ""
    if answer.finding.estimate.verdict == BEYOND_MARGIN:
        return "by more than the margin"
    return "by an amount that may not matter" if answer.finding.estimate.verdict == DIFFERENT else ""


def posterior(answer: Answer) -> str:
    """The posterior probabilities that the effect is below, within and above the margin; empty if unknown."""
    found = margin_probabilities(answer.finding.estimate) if answer.finding else {}
    if not found or math.isnan(found["p_within"]):
        return ""
    below, within, above = (numbers.fixed(value, 2) for value in found.values())
    return f"P(below, within, above the margin) {below}, {within}, {above}"


def _more_pools(estimate: Estimate) -> int | None:
    """Additional pools needed to decide between `different` and `equivalent` at the margin; None if unknown."""
    if estimate.margin is None or estimate.n_units < 2 or not estimate.se > 0:
        return None
    deviation = estimate.se * math.sqrt(estimate.n_units)
    return max(pools_wanted(deviation, estimate.margin) - estimate.n_units, 1)


def table(found: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers as records: the claim's fields, then those of the estimate; `audit` has one per other protocol."""
    rows = []
    for one in found:
        about: dict[str, Any] = {
            "claim": one.name,
            "question": one.question,
            "verdict_of_claim": one.verdict or "not asked",
        }
        about |= {"pools_more": one.needs, "audit_summary": summary(one.changes), "missing": one.missing}
        about |= {"remark": remark(one)}
        about |= margin_probabilities(one.finding.estimate) if one.finding else {}
        estimate = asdict(one.finding.estimate) if one.finding else {}
        audit = [_under(name, other, one.changes.get(name)) for name, other in one.audited.items()]
        rows.append({**about, "expected": one.finding.expected if one.finding else None, **estimate, "audit": audit})
    return rows


def _under(protocol: str, answer: Answer, change: Change | None) -> dict[str, Any]:
    """The verdict and estimate of a claim under a protocol, and the change of the effect, as a record."""
    assert answer.finding is not None
    names = ("estimate", "low", "high", "n_units", "p_adjusted")
    found: dict[str, Any] = {"protocol": protocol, "verdict_of_claim": answer.verdict}
    found |= {name: getattr(answer.finding.estimate, name) for name in names}
    found |= {f"change_{name}": getattr(change.estimate, name) if change else None for name in names}
    return found | {"change_verdict": change.verdict if change else None}


def lines(found: Sequence[Answer]) -> list[str]:
    """The answers as text: verdict and question, then the effect with its interval, unit and count."""
    texts = []
    for one in found:
        texts += [f"{one.verdict or 'not asked':<13} {one.question}"]
        if one.finding is None:
            texts += [f"{'':<13} {one.missing}"]
            continue
        estimate = one.finding.estimate
        scale = one.finding.scale
        value = numbers.signed(scale * estimate.estimate, 2)
        interval = numbers.interval(scale * estimate.low, scale * estimate.high, 2)
        parts = [remark(one)] if remark(one) else []
        parts += [f"{value} {one.finding.unit} {interval}", f"{estimate.n_units} {estimate.unit}s"]
        parts += [f"p, corrected: {numbers.p_value(estimate.p_adjusted)}"]
        parts += [posterior(one)] if posterior(one) else []
        parts += [f"needs {one.needs} more pool{'' if one.needs == 1 else 's'}"] if one.needs else []
        parts += [f"audit: {summary(one.changes)}"] if one.changes else []
        texts += [f"{'':<13} {'; '.join(parts)}"]
    return texts
