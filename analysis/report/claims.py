"""A claim: a question in words, the one estimate that decides it, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from analysis.core import registry as catalogue
from analysis.core.errors import AnalysisError
from analysis.display import numbers
from analysis.inference.estimate import DIFFERENT, EQUIVALENT, Estimate
from analysis.inference.finding import Expected, Finding
from analysis.inference.power import pools_wanted
from analysis.inference.verdict import adjust_and_judge
from analysis.rows.protocols import CORRECT, protocols, rows_under, short
from analysis.rows.run import Run

SUPPORTED, REFUTED, INCONCLUSIVE = "supported", "refuted", "inconclusive"
VERDICTS = (SUPPORTED, REFUTED, EQUIVALENT, INCONCLUSIVE)


@dataclass(frozen=True)
class Answer:
    """A claim with its verdict.

    `needs` is how many pools more would decide it, None where it is decided or cannot be told; `missing` says why
    there is no verdict; `audited` has the same claim under every other protocol whose rows speak to it.
    """

    name: str
    question: str
    quantity: str
    finding: Finding | None
    verdict: str
    needs: int | None = None
    missing: str = ""
    audited: dict[str, Answer] = field(default_factory=dict)

    @property
    def audit(self) -> dict[str, str]:
        """The verdict under every other protocol."""
        return {name: one.verdict for name, one in self.audited.items()}

    @property
    def survives(self) -> str:
        """Whether every audited defect leaves the verdict as it is."""
        if not self.audit:
            return "not audited"
        changed = [short(name) for name, verdict in self.audit.items() if verdict != self.verdict]
        return f"no: {', '.join(changed)}" if changed else "yes"


def answers(run: Run) -> list[Answer]:
    """Every claim of the folder held against the rows of a run, corrected by Holm for the number on the same tables.

    The margin is that of the run's configuration. Claims that the rows cannot speak to say what is missing.
    """
    found = _asked(run, rows_under(run.candidates, CORRECT))
    others = [name for name in protocols(run.candidates) if name != CORRECT]
    audited = {name: _asked(run, rows_under(run.candidates, name)) for name in others}
    return [
        replace(one, audited={name: rows[place] for name, rows in audited.items() if rows[place].verdict})
        if "candidates" in _tables(one.name)
        else one
        for place, one in enumerate(found)
    ]


def _tables(name: str) -> tuple[str, ...]:
    """The tables that a claim takes."""
    return tuple(catalogue.tables(catalogue.get_plugin("claims", name)))


def _asked(run: Run, candidates: pd.DataFrame) -> list[Answer]:
    """Every claim on some rows; those on the same tables are one family."""
    tables = {"candidates": candidates}
    raw = [_ask(name, run, tables) for name in catalogue.list_plugins("claims")]
    for family in sorted({_tables(one.name) for one in raw}):
        raw = _judged(raw, family)
    return raw


def _judged(raw: list[Answer], tables: tuple[str, ...]) -> list[Answer]:
    """The claims, those on these tables with the verdicts of their family."""
    asked = [one for one in raw if one.finding and _tables(one.name) == tables]
    if not asked:
        return raw
    family = pd.DataFrame([asdict(one.finding.estimate) for one in asked if one.finding])
    rows = adjust_and_judge(family, "holm").itertuples()
    known = {one.name: _answered(one, row) for one, row in zip(asked, rows, strict=True)}
    return [known.get(one.name, one) for one in raw]


def _ask(name: str, run: Run, tables: dict[str, pd.DataFrame]) -> Answer:
    """One claim, without a verdict yet."""
    function = catalogue.get_plugin("claims", name)
    question, quantity, *_ = [*catalogue.caption(function), ""]
    try:
        needed = {table: tables[table] if table in tables else run.table(table) for table in catalogue.tables(function)}
        finding: Finding = function(**needed, margin=run.margin)
    except AnalysisError as error:
        return Answer(name, question, quantity, None, "", missing=error.what)
    return Answer(name, question, quantity, finding, "")


def _answered(answer: Answer, row: Any) -> Answer:
    """The claim with the verdict of its family."""
    finding = answer.finding
    assert finding is not None
    adjusted = None if math.isnan(row.p_adjusted) else float(row.p_adjusted)
    estimate = replace(finding.estimate, p_adjusted=adjusted, verdict=row.verdict)
    verdict = claim_verdict(estimate, finding.expected)
    needs = _more_pools(estimate) if verdict == INCONCLUSIVE else None
    return replace(answer, finding=replace(finding, estimate=estimate), verdict=verdict, needs=needs)


def claim_verdict(estimate: Estimate, expected: Expected) -> str:
    """supported, refuted, equivalent (no effect that matters, where one is claimed) or inconclusive."""
    if estimate.verdict == EQUIVALENT:
        return SUPPORTED if expected == "zero" else EQUIVALENT
    if estimate.verdict != DIFFERENT:
        return INCONCLUSIVE
    side: Expected = "above" if estimate.estimate > 0 else "below"
    return SUPPORTED if side == expected else REFUTED


def _more_pools(estimate: Estimate) -> int | None:
    """Pools beyond those at hand that would tell `different` from `equivalent` at the margin; None where unknown."""
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
        about |= {"pools_more": one.needs, "survives_audit": one.survives, "missing": one.missing}
        estimate = asdict(one.finding.estimate) if one.finding else {}
        audit = [_under(name, other) for name, other in one.audited.items()]
        rows.append({**about, "expected": one.finding.expected if one.finding else None, **estimate, "audit": audit})
    return rows


def _under(protocol: str, answer: Answer) -> dict[str, Any]:
    """What a claim comes to under a protocol, as a record."""
    assert answer.finding is not None
    told = ("estimate", "low", "high", "n_units", "p_adjusted")
    return {"protocol": protocol, "verdict_of_claim": answer.verdict} | {
        name: getattr(answer.finding.estimate, name) for name in told
    }


def lines(found: Sequence[Answer]) -> list[str]:
    """The answers as text: verdict and question, then the effect with its interval, unit and count."""
    told = []
    for one in found:
        told += [f"{one.verdict or 'not asked':<13} {one.question}"]
        if one.finding is None:
            told += [f"{'':<13} {one.missing}"]
            continue
        estimate, scale = one.finding.estimate, one.finding.scale
        value = numbers.signed(scale * estimate.estimate, 2)
        interval = numbers.interval(scale * estimate.low, scale * estimate.high, 2)
        parts = [f"{value} {one.finding.unit} {interval}", f"{estimate.n_units} {estimate.unit}s"]
        parts += [f"p, corrected: {numbers.p_value(estimate.p_adjusted)}"]
        parts += [f"needs {one.needs} more pool{'' if one.needs == 1 else 's'}"] if one.needs else []
        parts += [f"survives the audit: {one.survives}"] if one.audit else []
        told += [f"{'':<13} {'; '.join(parts)}"]
    return told
