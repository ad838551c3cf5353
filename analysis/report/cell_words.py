"""The cells of a claim as records and as lines of text."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from analysis.display import numbers
from analysis.inference.finding import Finding
from analysis.inference.heterogeneity import Heterogeneity
from analysis.report.claim_cells import FEWEST, CellAnswers


def cell_columns(found: CellAnswers | None) -> dict[str, Any]:
    """The scope of a claim, what its verdict depends on, its cells, and the spread between them, for its record."""
    if found is None:
        return {"scope": "", "depends_on": [], "cells": [], "between_cells": None}
    cells = [
        {"cell": one.name, **one.settings, "populations": list(one.populations), "verdict_of_claim": one.verdict}
        | asdict(one.estimate)
        for one in found.cells
    ]
    between = asdict(found.together) if found.together else None
    return {"scope": found.scope, "depends_on": list(found.depends), "cells": cells, "between_cells": between}


def part_words(finding: Finding) -> str:
    """The effects whose mean a claim is about, with their intervals, in the unit of display; empty without them."""
    texts = []
    for name, values in finding.parts.items():
        one = values.estimate
        ends = numbers.interval(finding.scale * one.low, finding.scale * one.high, 2)
        texts.append(f"{name} {numbers.signed(finding.scale * one.estimate, 2)} {ends}")
    return "; ".join(texts)


def part_columns(finding: Finding) -> dict[str, Any]:
    """The effects whose mean a claim is about, for its record."""
    return {"parts": {name: asdict(values.estimate) for name, values in finding.parts.items()}}


def depends_on(found: CellAnswers | None) -> str:
    """What a verdict depends on, in words; empty if on nothing."""
    return " or ".join(found.depends) if found else ""


def apart_by(found: CellAnswers | None) -> str:
    """`by cell` or the like where effects exclude each other, so that no number over all is shown; else empty."""
    return f"by {found.by}" if found is not None and found.effects else ""


def effect_range(found: CellAnswers | None, scale: float) -> str:
    """The smallest and the largest of effects that exclude each other, in the unit of display; empty without any."""
    if found is None or not found.effects:
        return ""
    ends = sorted(scale * one.estimate for one in found.effects)
    return f"{numbers.signed(ends[0], 2)} to {numbers.signed(ends[-1], 2)}"


def cell_lines(found: CellAnswers | None, scale: float) -> list[str]:
    """For what a verdict holds, then the spread between cells, in the unit of display."""
    if found is None:
        return []
    texts = [f"on {depends_on(found)}: {found.scope}" if found.depends else found.scope]
    spread = spread_of(found, scale)
    return [*texts, f"between cells: {spread}"] if spread else texts


def spread_of(found: CellAnswers | None, scale: float) -> str:
    """The spread between the cells of a claim in words; empty without two cells with intervals."""
    return _spread_words(found.together, scale) if found and found.together else ""


def _spread_words(together: Heterogeneity, scale: float) -> str:
    """The spread between cells in the unit of display; from five cells on their mean and what a new cell would show."""
    parts = [f"tau {numbers.fixed(scale * together.tau, 2)}"]
    parts += [f"I² {numbers.fixed(100 * together.i_squared, 0)}%"]
    parts += [f"Q {numbers.fixed(together.q, 1)}, p {numbers.p_value(together.q_p)}"]
    if together.n_cells >= FEWEST:
        ends = numbers.interval(scale * together.low, scale * together.high, 2)
        parts += [f"mean of {together.n_cells} cells {numbers.signed(scale * together.mean, 2)} {ends}"]
        parts += [f"new cell {numbers.interval(scale * together.new_low, scale * together.new_high, 2)}"]
    return "; ".join(parts)
