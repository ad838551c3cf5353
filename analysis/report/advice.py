"""What would decide an inconclusive claim, in words."""

from __future__ import annotations

from analysis.inference.estimate import DIFFERENT, Estimate
from analysis.inference.power import MOST_POOLS, Needs
from analysis.inference.two_way import IDENTICAL
from analysis.report.claim_cells import CellAnswers
from sweep.core.text import format_count


def needs_text(needs: Needs | None) -> str:
    """The pools that would decide a claim, with their interval, in words; empty if they are unknown."""
    if needs is None:
        return ""
    ends = f"{needs.low} or more" if needs.high is None else f"{needs.low} to {needs.high}"
    aim = "show a difference" if needs.verdict == DIFFERENT else "show equivalence"
    if needs.is_new_run:
        return f"the planned pools do not suffice: another run of {needs.pools} pools ({ends}) would {aim}"
    return f"needs {format_count(needs.pools, 'more pool')} ({ends}) to {aim}"


def average_only(found: CellAnswers | None) -> str:
    """What holds on average and is not shown for each population or part, in words; else empty."""
    return found.average_only if found else ""


def advice(needs: Needs | None, estimate: Estimate, found: CellAnswers | None) -> str:
    """What would decide an inconclusive claim, as a sentence without a full stop."""
    text = needs_text(needs)
    if text:
        return text[:1].upper() + text[1:]
    if found is not None and len(found.cells) > 1:
        return "Its cells are decided one by one; see above which of them are open"
    if average_only(found):
        return "More pools would show whether it holds for each of them, or on what it depends"
    if estimate.is_identical:
        bound = next(text for text in estimate.warnings if text.startswith(IDENTICAL))
        return f"More pools alone do not decide it: {bound}"
    if estimate.se == 0:
        return "The number of pools is unknown: there is no spread between pools"
    return f"The number of pools is unknown, or above {MOST_POOLS:,}"
