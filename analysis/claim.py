"""A claim: a question in words, the one estimate that decides it, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from analysis import catalogue, numbers
from analysis.audited import CORRECT, protocols, under
from analysis.errors import AnalysisError
from analysis.estimate import DIFFERENT, EQUIVALENT, Estimate
from analysis.load import Run
from analysis.statistics.power import pools_wanted
from analysis.verdict import judged

Expected = Literal["above", "below", "zero"]
SUPPORTED, REFUTED, INCONCLUSIVE = "supported", "refuted", "inconclusive"
VERDICTS = (SUPPORTED, REFUTED, EQUIVALENT, INCONCLUSIVE)


@dataclass(frozen=True)
class Finding:
    """What the file of a claim gives: the estimate that decides, where it lies if the claim holds, and the figure.

    `scale` and `unit` turn the estimate into what a reader sees, such as percentage points.
    """

    estimate: Estimate
    expected: Expected
    figure: str
    scale: float = 100.0
    unit: str = "points"


@dataclass(frozen=True)
class Answer:
    """A claim with its verdict.

    `needs` is how many pools more would decide it, None where it is decided or cannot be told; `missing` says why
    there is no verdict; `audit` has the verdict under every other protocol whose rows speak to it.
    """

    name: str
    question: str
    quantity: str
    finding: Finding | None
    verdict: str
    needs: int | None = None
    missing: str = ""
    audit: dict[str, str] = field(default_factory=dict)

    @property
    def survives(self) -> str:
        """Whether every audited defect leaves the verdict as it is."""
        if not self.audit:
            return "not audited"
        changed = [name for name, verdict in self.audit.items() if verdict != self.verdict]
        return f"no: {', '.join(changed)}" if changed else "yes"


def answers(run: Run) -> list[Answer]:
    """Every claim of the folder held against the rows of a run, corrected by Holm for their number.

    The margin is that of the run's configuration. Claims that the rows cannot speak to say what is missing.
    """
    found = _asked(run, under(run.candidates, CORRECT))
    others = [name for name in protocols(run.candidates) if name != CORRECT]
    audited = {name: _asked(run, under(run.candidates, name)) for name in others}
    return [
        replace(one, audit={name: rows[place].verdict for name, rows in audited.items() if rows[place].verdict})
        for place, one in enumerate(found)
    ]


def _asked(run: Run, candidates: pd.DataFrame) -> list[Answer]:
    """Every claim on some rows."""
    tables = {"candidates": candidates}
    raw = [_ask(name, run, tables) for name in catalogue.names("claims")]
    open_ones = [index for index, one in enumerate(raw) if one.finding is not None]
    if not open_ones:
        return raw
    family = pd.DataFrame([asdict(raw[index].finding.estimate) for index in open_ones])  # type: ignore[union-attr]
    for index, row in zip(open_ones, judged(family, "holm").itertuples(), strict=True):
        raw[index] = _answered(raw[index], row)
    return raw


def _ask(name: str, run: Run, tables: dict[str, pd.DataFrame]) -> Answer:
    """One claim, without a verdict yet."""
    function = catalogue.find("claims", name)
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
    if estimate.margin is None or estimate.n_units < 2 or math.isnan(estimate.se):
        return None
    deviation = estimate.se * math.sqrt(estimate.n_units)
    return max(pools_wanted(deviation, estimate.margin) - estimate.n_units, 1)


def table(found: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers as records: the claim's fields, then those of the estimate."""
    rows = []
    for one in found:
        about: dict[str, Any] = {
            "claim": one.name,
            "question": one.question,
            "verdict_of_claim": one.verdict or "not asked",
        }
        about |= {"pools_more": one.needs, "survives_audit": one.survives, "missing": one.missing}
        estimate = asdict(one.finding.estimate) if one.finding else {}
        rows.append({**about, "expected": one.finding.expected if one.finding else None, **estimate})
    return rows


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
