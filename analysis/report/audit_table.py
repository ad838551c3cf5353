"""The audit as rows of texts: every claim under the correct protocol and under each defect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from analysis.inference.finding import Finding
from analysis.report.claims import Answer
from analysis.report.tables import cell
from analysis.rows.protocols import CORRECT, short


def defects(found: Sequence[Answer]) -> list[dict[str, Any]]:
    """The audited claims, each with `rows`: the correct protocol, then the protocols that change its estimate.

    A row has `protocol`, `cell` and `verdict`, and of the change of the effect `change` (its cell, None for the correct
    protocol), `change_verdict` and `change_words`. `same` names the protocols that change no number, `silent` those
    without rows for this claim.
    """
    known = dict.fromkeys(name for one in found for name in one.audited)
    return [_claim(one, list(known)) for one in found if one.finding and one.audited]


def _claim(answer: Answer, known: Sequence[str]) -> dict[str, Any]:
    """One claim under every protocol."""
    assert answer.finding is not None
    under = {CORRECT: answer, **{name: answer.audited[name] for name in known if name in answer.audited}}
    acted = {name: one for name, one in under.items() if name == CORRECT or _numbers(one) != _numbers(answer)}
    span = max((abs(end) for one in acted.values() for end in _numbers(one) if math.isfinite(end)), default=0.0)
    return {
        "name": answer.name,
        "question": answer.question,
        "unit": answer.finding.unit,
        "rows": [_row(name, one, answer, answer.finding.scale * span or 1.0) for name, one in acted.items()],
        "same": [short(name) for name in under if name not in acted],
        "silent": [short(name) for name in known if name not in answer.audited],
    }


def _numbers(answer: Answer) -> tuple[float, float, float]:
    """The estimate and the ends of its interval."""
    estimate = _finding(answer).estimate
    return estimate.estimate, estimate.low, estimate.high


def _finding(answer: Answer) -> Finding:
    """The finding of a claim; answers without one are not in the audit."""
    assert answer.finding is not None
    return answer.finding


def _row(protocol: str, answer: Answer, correct: Answer, span: float) -> dict[str, Any]:
    """One line of the table."""
    finding = _finding(answer)
    change = correct.changes.get(protocol)
    return {
        "protocol": short(protocol),
        "cell": cell(finding.estimate, span, finding.scale),
        "verdict": answer.verdict,
        "change": cell(change.estimate, span, finding.scale) if change else None,
        "change_verdict": change.verdict if change else "",
        "change_words": change.words(finding.scale) if change else "",
    }
