"""Answers of a claim by cell (data set, architecture and start of the networks), and what holds for all cells.

A claim holds in general if it holds in each cell, which needs no further correction (intersection-union), or on average
over five cells or more if nothing shows that they differ. Otherwise its verdict is `depends on`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.inference.estimate import (
    BEYOND_MARGIN,
    DIFFERENT,
    EQUIVALENT,
    INCONCLUSIVE,
    LEVEL,
    Estimate,
    Question,
    margin_p_values,
    student,
    verdict_of,
)
from analysis.inference.finding import PoolValues
from analysis.inference.heterogeneity import Heterogeneity, arrays_of, random_effects, spread_p
from analysis.rows.cells import FACTORS
from sweep.core.text import format_count

DEPENDS = "depends on"
RECIPE = "population"
"""What differs between populations of one cell that disagree."""

CELL = "cell"
"""The unit of replication of a mean over cells."""

FEWEST = 5
"""Fewest cells over which an average is a general statement; fewer cells are judged one by one."""

NAMED = 4
"""Most cells of one verdict that are named in its scope."""

ALPHA = 1 - LEVEL
Judge = Callable[[Estimate], str]
"""The verdict on a claim from an estimate with its verdict."""


@dataclass(frozen=True)
class Cell:
    """The answer of one cell: settings, populations, estimate with corrected p and verdict, and verdict on the claim.

    `name` has the settings in words. `within_p` is the p that the effect lies within the margin on average and in each
    population. A cell whose populations disagree is one cell per population.
    """

    settings: dict[str, str]
    populations: tuple[str, ...]
    name: str
    estimate: Estimate
    within_p: float
    verdict: str = ""


@dataclass(frozen=True)
class CellAnswers:
    """The cells of a claim and what follows for all of them.

    `verdict` is that on the claim, `estimate` the one that is shown with it, `depends` what differs between cells that
    disagree, `scope` for what the verdict holds, in words. `together` is None for fewer than two intervals.
    `average_only` says what holds on average and is not shown for each population or part; else it is empty.
    `effects` are those that exclude each other, of cells or of what `by` says: no number over all is true of any.
    """

    cells: tuple[Cell, ...]
    verdict: str
    estimate: Estimate
    scope: str
    depends: tuple[str, ...] = ()
    together: Heterogeneity | None = None
    average_only: str = ""
    effects: tuple[Estimate, ...] = ()
    by: str = "cell"


def answer_by_cell(
    values: PoolValues, corrected: Estimate, settings: pd.DataFrame, judge: Judge, level: float
) -> CellAnswers:
    """The claim by cell and for all cells.

    `corrected` is the estimate over all pools with p and verdict corrected for the family of claims: a single cell has
    its verdict. Several cells are tested at `level`, the share of the error of 5% that this claim has in its family.
    `settings` has the columns of `FACTORS` by population. A contrast between populations (with `shares`) is one
    estimate and has a scope only.
    """
    settings = settings.reindex(sorted(set(values.frame["population"].astype(object)))).fillna("unknown")
    if values.shares is not None:
        return CellAnswers((), judge(corrected), corrected, _scope_of_contrast(values, list(values.shares), settings))
    cells = split(values, settings, level)
    return _single(cells[0], corrected, judge, level) if len(cells) == 1 else join(cells, corrected, judge, level)


def answer_by_part(
    found: CellAnswers, parts: Mapping[str, PoolValues], part: str, judge: Judge, level: float
) -> CellAnswers:
    """The answer, unless two of the effects whose mean it is about exclude each other (at `level`, Bonferroni).

    They do in a cell if they have opposite signs, or if one is within the margin and another beyond it; `part` is what
    they are. Of fewer than five effects, as of so few cells, a verdict needs that of each of them.
    """
    if not parts or found.verdict == DEPENDS:
        return found
    cells = {f" in {one.name}": one.populations for one in found.cells} if len(found.cells) > 1 else {"": None}
    effects = {
        (name, place): (one if own is None else one.only(own)).estimate
        for place, own in cells.items()
        for name, one in parts.items()
    }
    judged = {key: _judged(one, level / len(effects)) for key, one in effects.items()}
    if any(_excluding([judged[name, place] for name in parts]) for place in cells):
        listed = "; ".join(f"{name}{place} {_part_words(one)}" for (name, place), one in judged.items())
        estimate = replace(found.estimate, verdict=INCONCLUSIVE)
        about = replace(found, effects=tuple(effects.values()), by=part, depends=(part,))
        return replace(about, verdict=DEPENDS, estimate=estimate, scope=f"{listed} ({found.scope})")
    return _of_each(found, [_judged(one, level) for one in effects.values()], f"the {len(parts)} {part}s", judge)


def _of_each(found: CellAnswers, effects: Sequence[Estimate], each: str, judge: Judge) -> CellAnswers:
    """The answer with the verdict that holds for each effect, if there are few; an equivalence always needs each."""
    average = found.estimate.verdict
    if average == INCONCLUSIVE or (len(effects) >= FEWEST and average != EQUIVALENT):
        return found
    estimate = replace(found.estimate, verdict=_weakest(effects))
    only = _average_only(found.estimate, each) if estimate.verdict == INCONCLUSIVE else ""
    return replace(found, verdict=judge(estimate), estimate=estimate, average_only=only)


def _average_only(estimate: Estimate, each: str) -> str:
    """What holds on average alone, in words."""
    what = "within the margin" if estimate.verdict == EQUIVALENT else "different from zero"
    return f"{what} on average, which is not shown for each of {each}"


def _without_equivalence(one: Estimate) -> Estimate:
    """An estimate that is equivalent on average alone: what is left is whether it differs from zero."""
    differs = one.p_adjusted is not None and one.p_adjusted < ALPHA
    return replace(one, verdict=DIFFERENT if differs else INCONCLUSIVE)


def _judged(one: Estimate, level: float) -> Estimate:
    """The estimate with its verdict at a level of error."""
    within, beyond = margin_p_values(one)
    return replace(one, verdict=verdict_of(one.p, within, beyond, level))


def _part_words(one: Estimate) -> str:
    """The verdict on one of several effects, in words."""
    side = "above zero" if one.estimate > 0 else "below zero"
    words = {EQUIVALENT: "within the margin", BEYOND_MARGIN: side, DIFFERENT: side}
    return words.get(one.verdict, INCONCLUSIVE)


def split(values: PoolValues, settings: pd.DataFrame, level: float) -> list[Cell]:
    """The cells with their estimates, populations fixed; a cell whose populations disagree is split."""
    found = []
    for key, group in settings.groupby(list(FACTORS), sort=True):
        factors = dict(zip(FACTORS, key, strict=True))
        words = f"{factors['architecture']} on {factors['dataset']}, {factors['start']} start"
        parts = [_cell(values, factors, (one,), f"{words} ({one})") for one in group.index]
        if len(parts) > 1 and not _disagree(_corrected(parts, level)):
            whole = _cell(values, factors, tuple(group.index), words)
            parts = [replace(whole, within_p=max(one.within_p for one in (whole, *parts)))]
        found += [replace(parts[0], name=words)] if len(parts) == 1 else parts
    return found


def _cell(values: PoolValues, settings: dict[str, str], populations: tuple[str, ...], name: str) -> Cell:
    """A cell of some populations with its estimate."""
    estimate = values.only(populations).estimate
    return Cell(settings, populations, name, estimate, _known(margin_p_values(estimate)[0]))


def _single(cell: Cell, corrected: Estimate, judge: Judge, level: float) -> CellAnswers:
    """The answer of a single cell; equivalent only if each of its populations is."""
    apart = corrected.verdict == EQUIVALENT and len(cell.populations) > 1 and cell.within_p >= level
    estimate = _without_equivalence(corrected) if apart else corrected
    several = f", {len(cell.populations)} populations" if len(cell.populations) > 1 else ""
    scope = f"{cell.name}{several}, {format_count(corrected.n_units, corrected.unit)}"
    verdict = judge(estimate)
    judged = replace(cell, estimate=estimate, verdict=verdict)
    is_open = apart and estimate.verdict == INCONCLUSIVE
    only = _average_only(corrected, f"the {len(cell.populations)} populations") if is_open else ""
    return CellAnswers((judged,), verdict, estimate, scope, average_only=only)


def _corrected(cells: Sequence[Cell], level: float) -> list[Cell]:
    """The cells with the verdicts of their estimates, each kind of test corrected for the number of cells (Hochberg).

    Cells have no pool in common, and with Hochberg's step-up all are decided if each is at `level` alone.
    """
    p = hochberg(np.array([_known(one.estimate.p) for one in cells]))
    within = hochberg(np.array([one.within_p for one in cells]))
    beyond = hochberg(np.array([_known(margin_p_values(one.estimate)[1]) for one in cells]))
    found = []
    for cell, zero, inside, outside in zip(cells, p.tolist(), within.tolist(), beyond.tolist(), strict=True):
        verdict = verdict_of(zero, inside, outside, level)
        adjusted = None if cell.estimate.p is None else min(1.0, zero * ALPHA / level)
        found.append(replace(cell, estimate=replace(cell.estimate, p_adjusted=adjusted, verdict=verdict)))
    return found


def hochberg(p_values: np.ndarray) -> np.ndarray:
    """p values corrected by Hochberg's step-up (1988), for independent tests: all are rejected if the largest p is."""
    order = np.argsort(-p_values, kind="stable")
    found = np.empty(len(p_values))
    found[order] = np.minimum.accumulate(p_values[order] * np.arange(1, len(p_values) + 1))
    return found


def _known(p: float | None) -> float:
    """A p, 1 where there is none: a cell without an interval is not decided."""
    return 1.0 if p is None or math.isnan(p) else p


def _disagree(cells: Sequence[Cell]) -> bool:
    """Whether cells show different effects: by their spread (at 5%), or by verdicts that exclude each other."""
    estimates = [one.estimate for one in cells]
    return _excluding(estimates) or spread_p(estimates) < ALPHA


def _excluding(estimates: Sequence[Estimate]) -> bool:
    """Whether two effects have opposite signs, or one is within the margin and another beyond it."""
    verdicts = {one.verdict for one in estimates}
    signs = {one.estimate > 0 for one in estimates if one.verdict in (DIFFERENT, BEYOND_MARGIN)}
    return len(signs) > 1 or {EQUIVALENT, BEYOND_MARGIN} <= verdicts


def join(parts: Sequence[Cell], corrected: Estimate, judge: Judge, level: float) -> CellAnswers:
    """The answer of two cells or more, tested at `level`, and what follows for all of them."""
    cells = [replace(one, verdict=judge(one.estimate)) for one in _corrected(parts, level)]
    arrays = arrays_of([one.estimate for one in cells])
    together = random_effects(*arrays) if len(arrays[0]) > 1 else None
    shown = _mean_of_cells(cells, corrected, together)
    answer = CellAnswers(tuple(cells), INCONCLUSIVE, replace(shown, verdict=INCONCLUSIVE), "", (), together)
    each = replace(shown, verdict=_weakest([one.estimate for one in cells]))
    if each.verdict != INCONCLUSIVE:
        return replace(answer, verdict=judge(each), estimate=each, scope=f"in each of {_summary(cells)}")
    if _disagree(cells):
        depends = _what_differs(cells)
        effects = tuple(one.estimate for one in cells)
        return replace(answer, verdict=DEPENDS, scope=_by_verdict(cells), depends=depends, effects=effects)
    average = _average(shown, level)
    if average.verdict != INCONCLUSIVE:
        return replace(answer, verdict=judge(average), estimate=average, scope=f"on average over {_summary(cells)}")
    return replace(answer, scope=_by_verdict(cells))


def _mean_of_cells(cells: Sequence[Cell], corrected: Estimate, together: Heterogeneity | None) -> Estimate:
    """The estimate for several cells: of random effects from five cells on, else over the pools of these cells.

    Its p is the largest of the cells.
    """
    known = [one.estimate.p_adjusted for one in cells if one.estimate.p_adjusted is not None]
    largest = max(known) if len(known) == len(cells) else None
    if together is None or together.n_cells < max(FEWEST, len(cells)):
        return replace(corrected, p_adjusted=largest)
    estimand = corrected.estimand.replace("for new pools of these populations", "for cells of this kind")
    question = Question(estimand, CELL, 0.0, corrected.margin)
    found = student(together.mean, together.se, together.df, together.n_cells, question, corrected.warnings)
    return replace(found, p_adjusted=largest)


def _weakest(estimates: Sequence[Estimate]) -> str:
    """The verdict that holds for each estimate, the weakest of theirs; `inconclusive` if none does."""
    verdicts = {one.verdict for one in estimates}
    if _excluding(estimates):
        return INCONCLUSIVE
    if len(verdicts) == 1:
        return verdicts.pop()
    return DIFFERENT if verdicts <= {DIFFERENT, BEYOND_MARGIN} else INCONCLUSIVE


def _average(shown: Estimate, level: float) -> Estimate:
    """The mean of random effects with its verdict at `level`; cells that are few, or equivalence, give none."""
    within, beyond = margin_p_values(shown)
    verdict = verdict_of(shown.p, within, beyond, level)
    if shown.unit != CELL or verdict in (EQUIVALENT, INCONCLUSIVE):
        return replace(shown, verdict=INCONCLUSIVE)
    return replace(shown, p_adjusted=min(1.0, _known(shown.p) * ALPHA / level), verdict=verdict)


def _what_differs(cells: Sequence[Cell]) -> tuple[str, ...]:
    """The fewest factors such that cells alike in them do not disagree; alternatives if several are as good."""
    varying = [name for name in FACTORS if len({one.settings[name] for one in cells}) > 1]
    for size in range(1, len(varying) + 1):
        sets = [names for names in itertools.combinations(varying, size) if _explain(cells, names)]
        if sets:
            return tuple(" and ".join(FACTORS[name] for name in names) for names in sets)
    return (" and ".join([*(FACTORS[name] for name in varying), RECIPE]),)


def _explain(cells: Sequence[Cell], names: Sequence[str]) -> bool:
    """Whether cells that are alike in these factors do not disagree."""
    key = lambda one: tuple(one.settings[name] for name in names)  # noqa: E731
    groups = [list(group) for _, group in itertools.groupby(sorted(cells, key=key), key=key)]
    return not any(_disagree(group) for group in groups)


def _scope_of_contrast(values: PoolValues, used: Sequence[str], settings: pd.DataFrame) -> str:
    """The populations of a contrast in words."""
    pools = int(values.frame["population"].isin(used).sum())
    rows = settings.loc[used].to_dict("records")
    return f"{format_count(len(used), 'population')} ({_factors(rows)}), {format_count(pools, 'pool')}"


def _summary(cells: Sequence[Cell]) -> str:
    """Several cells in words."""
    words = _factors([one.settings for one in cells])
    these = "these " if len(cells) < FEWEST else ""
    pools = format_count(sum(one.estimate.n_units for one in cells), "pool")
    return f"{these}{len(cells)} {_noun(cells)} ({words}), {pools}"


def _noun(cells: Sequence[Cell]) -> str:
    """What cells are: populations, if they differ in no factor of a cell."""
    return "cells" if len({tuple(one.settings.values()) for one in cells}) > 1 else "populations"


def _factors(rows: Sequence[dict[str, str]]) -> str:
    """The data sets, architectures and starts of cells in words."""
    named = {name: list(dict.fromkeys(row[name] for row in rows)) for name in FACTORS}
    texts = {name: ", ".join(found) for name, found in named.items()}
    return f"{texts['architecture']} on {texts['dataset']}; {texts['start']} start"


def _by_verdict(cells: Sequence[Cell]) -> str:
    """The cells by their verdicts in words, and by the signs of their effects where cells of one verdict differ."""
    listed: dict[str, list[Cell]] = {}
    for one in cells:
        signs = {other.estimate.estimate > 0 for other in cells if other.verdict == one.verdict}
        apart = len(signs) > 1 and one.verdict != INCONCLUSIVE
        side = f" ({'above' if one.estimate.estimate > 0 else 'below'} zero)" if apart else ""
        listed.setdefault(one.verdict + side, []).append(one)
    return "; ".join(f"{words} in {_names(own)}" for words, own in listed.items())


def _names(cells: Sequence[Cell]) -> str:
    """The names of some cells with their numbers of pools; of many, how many."""
    if len(cells) > NAMED:
        return f"{len(cells)} {_noun(cells)}"
    return " and ".join(f"{one.name} ({format_count(one.estimate.n_units, 'pool')})" for one in cells)
