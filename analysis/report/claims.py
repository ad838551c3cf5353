"""Evaluate claims on a run: each has a question, one estimate that decides it, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd

from analysis.core import registry
from analysis.core.constants import read_constant
from analysis.core.errors import AnalysisError
from analysis.display import numbers
from analysis.inference.estimate import BEYOND_MARGIN, DIFFERENT, EQUIVALENT, INCONCLUSIVE, Estimate
from analysis.inference.finding import Expected, Finding
from analysis.inference.power import Needs
from analysis.inference.rope import margin_probabilities
from analysis.report.advice import average_only, needs_text
from analysis.report.audit_changes import Change, effect_changes, summary
from analysis.report.cell_words import apart_by, cell_columns, cell_lines, effect_range, part_columns, part_words
from analysis.report.claim_cells import CELL, DEPENDS, CellAnswers, answer_by_cell, answer_by_part
from analysis.report.family import ALPHA, History, Judgement, families, judge_family
from analysis.report.looks import Look, earlier_looks, look_at, now, record, recorded_looks
from analysis.rows.cells import cell_settings
from analysis.rows.controls import controls_note, without_controls
from analysis.rows.declared import declared_claims, later_changes, pool_plan
from analysis.rows.protocols import CORRECT, protocols, rows_under
from analysis.rows.run import Run
from sweep.core.causes import describe
from sweep.core.text import did_you_mean, format_count

SUPPORTED = "supported"
REFUTED = "refuted"
EXPLORATORY = "exploratory"
VERDICTS = (SUPPORTED, REFUTED, EQUIVALENT, DIFFERENT, INCONCLUSIVE, DEPENDS, EXPLORATORY)


@dataclass(frozen=True)
class Answer:
    """A claim with its verdict.

    `needs` has the pools that would decide it; None if it is decided or the number is unknown. `simultaneous` is the
    interval that holds together with those of the other claims of the family, `earlier` the looks before this one.
    `missing` is the reason if there is no verdict; `failed` is True if its computation ended in an error. `audited` has
    the same claim under every other protocol that has rows for it, `changes` what each of them changes in the effect.
    `by_cell` has the answers of its cells (data set, architecture, start) and the scope of the verdict.
    """

    name: str
    question: str
    quantity: str
    finding: Finding | None
    verdict: str
    needs: Needs | None = None
    simultaneous: tuple[float, float] | None = None
    earlier: tuple[Look, ...] = ()
    missing: str = ""
    failed: bool = False
    by_cell: CellAnswers | None = None
    audited: dict[str, Answer] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)

    @property
    def bootstrap(self) -> tuple[float, float]:
        """The bootstrap-t interval over pools; NaN without one, and where that mean is not what is shown."""
        if self.finding is None or self.finding.estimate.unit == CELL or apart_by(self.by_cell):
            return math.nan, math.nan
        return self.finding.values.bootstrap


def answers(run: Run) -> list[Answer]:
    """Every claim of the folder evaluated on a run, corrected for its family and for the looks that were recorded.

    The margin is that of the run's configuration. An answer without a finding has the reason in `missing`.
    """
    rows = without_controls(run.candidates, run.members)
    found = _evaluate_all(run, rows_under(rows, CORRECT), History(pool_plan(run), recorded_looks(run)))
    others = [name for name in protocols(rows) if name != CORRECT]
    audited = {name: _evaluate_all(run, rows_under(rows, name), History()) for name in others}
    numbers = dict(zip(run.candidates["pool_id"].astype(object), run.candidates["pool"].tolist(), strict=True))
    return [
        _with_audit(one, {name: rows[place] for name, rows in audited.items() if rows[place].verdict}, numbers)
        if "candidates" in _tables(one.name)
        else one
        for place, one in enumerate(found)
    ]


def notes(run: Run) -> list[str]:
    """What readers of the claims must know: declarations that were changed, and declared claims that do not exist."""
    known = registry.list_plugins("claims")
    unknown = [name for name in declared_claims(run) or () if name not in known]
    wrong = [f"`claims` declares `{name}`, which is no claim: {did_you_mean(name, known)}" for name in unknown]
    return [*later_changes(run), *wrong, *controls_note(run.members)]


def family_text(run: Run) -> str:
    """Which claims are corrected together, in words."""
    names = declared_claims(run)
    return "all claims on the same rows" if names is None else f"declared before the run: {', '.join(names)}"


def plan_text(run: Run) -> str:
    """The planned pools, and how looks before and beyond them are judged, as a sentence."""
    plan = pool_plan(run)
    if plan.stated:
        pools = f"{format_count(plan.stated, 'pool')} per population were planned"
        return (
            f"{pools}: looks before that spend little of the error (O'Brien-Fleming type), later ones find nothing new."
        )
    first = "the pools of the first run" if plan.pools else "the pools of the first look"
    return (
        f"No number of pools was planned: nine tenths of the error are spent up to {first} (O'Brien-Fleming type), "
        "a tenth is kept for all later looks (always-valid test)."
    )


def record_looks(run: Run, found: Sequence[Answer]) -> str:
    """Record that these answers were looked at; returns a warning if that fails, else an empty text."""
    time = now()
    return record(run, [look_at(one.name, one.finding, one.verdict, time) for one in found if one.finding])


def _with_audit(answer: Answer, audited: dict[str, Answer], pool_numbers: dict[str, int]) -> Answer:
    """The claim with its answers under other protocols, and what these change."""
    if answer.finding is None:
        return replace(answer, audited=audited)
    defects = {name: one.finding.values for name, one in audited.items() if one.finding}
    return replace(answer, audited=audited, changes=effect_changes(answer.finding.values, defects, pool_numbers))


def _tables(name: str) -> tuple[str, ...]:
    """The tables that a claim reads."""
    return tuple(registry.tables(registry.get_plugin("claims", name)))


def _evaluate_all(run: Run, candidates: pd.DataFrame, history: History) -> list[Answer]:
    """Every claim on the given rows; the families are judged, other claims are exploratory."""
    tables = {"candidates": candidates}
    raw = [_evaluate(name, run, tables) for name in registry.list_plugins("claims")]
    findings = {one.name: one.finding for one in raw if one.finding}
    judged: dict[str, Judgement] = {}
    for names in families({name: _tables(name) for name in findings}, declared_claims(run)):
        judged |= judge_family({name: findings[name] for name in names}, history)
    levels = {name: one.level for name, one in judged.items()}
    answered = [_with_verdict(one, judged.get(one.name), history) for one in raw]
    read = {_tables(one.name) for one in answered if one.finding}
    cells = {names: cell_settings([run.table(name) for name in names], run.members) for names in sorted(read)}
    return [
        _by_cell(one, cells[_tables(one.name)], levels.get(one.name, ALPHA)) if one.finding else one for one in answered
    ]


def _by_cell(answer: Answer, settings: pd.DataFrame, level: float) -> Answer:
    """The claim, which its family tests at `level`, with the answers of its cells and the verdict that follows.

    `settings` has the columns of a cell by population.
    """
    finding = answer.finding
    assert finding is not None
    judge = partial(claim_verdict, expected=finding.expected)
    found = answer_by_cell(finding.values, finding.estimate, settings, judge, level)
    found = answer_by_part(found, finding.parts, finding.part, level)
    if answer.verdict == EXPLORATORY:
        return replace(answer, by_cell=found)
    needs = answer.needs if len(found.cells) < 2 and found.verdict == INCONCLUSIVE else None
    finding = replace(finding, corrected=found.estimate)
    # The simultaneous interval is for the mean over pools, not for one over cells or for cells that disagree.
    simultaneous = None if found.estimate.unit == CELL or found.effects else answer.simultaneous
    found_answer = replace(answer, finding=finding, verdict=found.verdict, needs=needs, by_cell=found)
    return replace(found_answer, simultaneous=simultaneous)


def margin_kind(name: str) -> str:
    """The kind of quantity whose margin a claim is compared with: the `MARGIN` of its file, `accuracy` without one."""
    return str(read_constant("claims", name, "MARGIN") or "accuracy")


def _evaluate(name: str, run: Run, tables: dict[str, pd.DataFrame]) -> Answer:
    """One claim, still without a verdict."""
    function = registry.get_plugin("claims", name)
    paragraphs = [*registry.caption(function), ""]
    question = paragraphs[0]
    quantity = paragraphs[1]
    try:
        names = [name for name in registry.tables(function) if name not in tables]
        needed = run.tables_of(names, registry.optional_tables(function))
        needed |= {name: tables[name] for name in registry.tables(function) if name in tables}
        finding: Finding = function(**needed, margin=run.margins[margin_kind(name)])
        finding = replace(finding, corrected=finding.estimate)  # computed here, where an error costs this claim alone
    except AnalysisError as error:
        return Answer(name, question, quantity, None, "", missing=error.what)
    except Exception as error:  # one claim that fails must not cost the others
        return Answer(name, question, quantity, None, "", missing=f"it failed: {describe(error)}", failed=True)
    return Answer(name, question, quantity, finding, "")


def _with_verdict(answer: Answer, judged: Judgement | None, history: History) -> Answer:
    """The claim with the verdict of its family; `exploratory` outside of it."""
    finding = answer.finding
    if finding is None:
        return answer
    if judged is None:
        earlier = earlier_looks(history.looks, answer.name, finding.values)
        return replace(answer, verdict=EXPLORATORY, earlier=earlier)
    verdict = claim_verdict(judged.finding.estimate, finding.expected)
    found = replace(answer, finding=judged.finding, verdict=verdict, needs=judged.needs)
    return replace(found, simultaneous=judged.simultaneous, earlier=judged.earlier)


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
    """What a verdict alone leaves open: whether the effect is larger than the margin; empty where it does not.

    Of an exploratory claim, the verdict without any correction.
    """
    if answer.finding is not None and answer.finding.estimate.is_identical:
        return "no test image differs"
    if answer.finding is not None and answer.verdict == EXPLORATORY:
        return f"without correction: {claim_verdict(answer.finding.estimate, answer.finding.expected)}"
    if answer.finding is None or answer.verdict not in (SUPPORTED, REFUTED, DIFFERENT):
        return average_only(answer.by_cell)
    return _size_words(answer.finding.estimate.verdict, answer.by_cell)


def _size_words(verdict: str, by_cell: CellAnswers | None) -> str:
    """How a difference compares with the margin, in words; what holds in each cell is the weakest of their verdicts."""
    if verdict == BEYOND_MARGIN:
        return "by more than the margin"
    cells = by_cell.cells if by_cell else ()
    beyond = sum(cell.estimate.verdict == BEYOND_MARGIN for cell in cells)
    if verdict == DIFFERENT and beyond:
        return f"by more than the margin in {beyond} of {len(cells)} cells"
    return "by an amount that may not matter" if verdict == DIFFERENT else ""


def beside(answer: Answer) -> str:
    """The estimate that is shown beside the one that decides a claim, in points of accuracy; empty without one."""
    if answer.finding is None or answer.finding.beside is None:
        return ""
    estimate = answer.finding.beside.estimate
    interval = numbers.interval(100 * estimate.low, 100 * estimate.high, 2)
    return f"{estimate.estimand}: {numbers.signed(100 * estimate.estimate, 2)} points {interval}"


def posterior(answer: Answer) -> str:
    """The posterior probabilities that the effect is below, within and above the margin; empty if unknown."""
    is_shown = answer.finding is not None and not apart_by(answer.by_cell)
    found = margin_probabilities(answer.finding.estimate) if answer.finding and is_shown else {}
    if not found or math.isnan(found["p_within"]):
        return ""
    below, within, above = (numbers.fixed(value, 2) for value in found.values())
    return f"P(below, within, above the margin) {below}, {within}, {above}"


def table(found: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers as records: the claim's fields, then those of the estimate; `audit` has one per other protocol."""
    rows = []
    for one in found:
        about: dict[str, Any] = {
            "claim": one.name,
            "question": one.question,
            "verdict_of_claim": one.verdict or "not asked",
        }
        about |= {"audit_summary": summary(one.changes), "missing": one.missing, "remark": remark(one)}
        about |= _needs_record(one.needs) | {"beside": beside(one)}
        ends = one.simultaneous or (None, None)
        about |= {"simultaneous_low": ends[0], "simultaneous_high": ends[1]}
        about |= {"earlier_looks": [asdict(look) for look in one.earlier]} | cell_columns(one.by_cell)
        estimate: dict[str, Any] = {"parts": {}}
        if one.finding:
            bootstrap = dict(zip(("bootstrap_low", "bootstrap_high"), one.bootstrap, strict=True))
            estimate = asdict(one.finding.estimate) | part_columns(one.finding) | bootstrap
            estimate |= margin_probabilities(one.finding.estimate)
        audit = [_under(name, other, one.changes.get(name)) for name, other in one.audited.items()]
        rows.append({**about, "expected": one.finding.expected if one.finding else None, **estimate, "audit": audit})
    return rows


def _needs_record(needs: Needs | None) -> dict[str, Any]:
    """The pools that would decide a claim: to add to this run, or of another run."""
    is_new_run = needs is not None and needs.is_new_run
    return {
        "pools_more": needs.pools if needs and not is_new_run else None,
        "pools_another_run": needs.pools if needs and is_new_run else None,
        "pools_low": needs.low if needs else None,
        "pools_high": needs.high if needs else None,
        "pools_decide": needs.verdict if needs else None,
    }


def _under(protocol: str, answer: Answer, change: Change | None) -> dict[str, Any]:
    """The verdict and estimate of a claim under a protocol, and the change of the effect, as a record."""
    assert answer.finding is not None
    names = ("estimate", "low", "high", "n_units", "p_adjusted")
    found: dict[str, Any] = {"protocol": protocol, "verdict_of_claim": answer.verdict}
    found |= {name: getattr(answer.finding.estimate, name) for name in names}
    found |= {f"change_{name}": getattr(change.estimate, name) if change else None for name in names}
    return found | {"change_verdict": change.verdict if change else None}


def look_text(look: Look, scale: float) -> str:
    """An earlier look in words."""
    value = numbers.signed(scale * look.estimate, 2)
    p = numbers.p_value(look.p_adjusted)
    return f"{numbers.when(look.time)}: {look.pools} pools, {value}, p, corrected: {p}, {look.verdict}"


def lines(found: Sequence[Answer]) -> list[str]:
    """The answers as text: verdict and question, then the effect with its interval, unit and count."""
    texts = []
    for one in found:
        texts += [f"{one.verdict or 'not asked':<13} {one.question}"]
        if one.finding is None:
            texts += [f"{'':<13} {one.missing}"]
            continue
        texts += [f"{'':<13} {'; '.join(_parts(one, one.finding))}", f"{'':<13} {one.finding.estimate.estimand}"]
        texts += [f"{'':<13} {text}" for text in cell_lines(one.by_cell, one.finding.scale)]
        texts += [f"{'':<13} note: {text}" for text in one.finding.estimate.warnings]
        texts += [f"{'':<13} earlier look, {look_text(look, one.finding.scale)}" for look in one.earlier]
    return texts


def _parts(answer: Answer, finding: Finding) -> list[str]:
    """What follows the question of a claim."""
    estimate = finding.estimate
    scale = finding.scale
    interval = numbers.interval(scale * estimate.low, scale * estimate.high, 2)
    parts = [remark(answer)] if remark(answer) else []
    apart = apart_by(answer.by_cell)
    value = numbers.signed(scale * estimate.estimate, 2)
    shown = f"{effect_range(answer.by_cell, scale)} {finding.unit} {apart}"
    parts += [shown if apart else f"{value} {finding.unit} {interval}"]
    parts += [f"{estimate.n_units} {estimate.unit}s"]
    if answer.simultaneous:
        least, most = answer.simultaneous
        parts += [f"simultaneous {numbers.interval(scale * least, scale * most, 2)}"]
    low, high = (scale * end for end in answer.bootstrap)
    parts += [f"bootstrap-t {numbers.interval(low, high, 2)}"] if low == low else []
    if answer.verdict == EXPLORATORY:
        parts += [f"p of no difference, not corrected: {numbers.p_value(estimate.p)}"]
    elif not apart:
        parts += [f"p of no difference, corrected: {numbers.p_value(estimate.p_adjusted)}"]
    parts += [posterior(answer)] if posterior(answer) else []
    parts += [beside(answer)] if beside(answer) else []
    parts += [needs_text(answer.needs)] if answer.needs else []
    parts += [f"audit: {summary(answer.changes)}"] if answer.changes else []
    return parts + ([part_words(finding)] if finding.parts else [])
