"""How often each verdict is given where it is wrong, and where it is right: `… simulations.verdict_table 4000`.

Names of parts after the number of studies choose them: `one` (a single cell), `cells` (several cells), `rest` (changes
by defects, scaled networks, looks, stages). Seeds do not depend on the parts. Numbers are percentages of the studies.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtr

from analysis.inference.estimate import DIFFERENT, Estimate, unit_mean
from analysis.inference.finding import Expected
from analysis.report.audit_changes import CHANGED, UNCHANGED, effect_changes
from analysis.report.claim_cells import DEPENDS
from analysis.report.claims import REFUTED, SUPPORTED, claim_verdict
from tests.analysis.simulations import test_cells, test_floor, test_looks, test_paths, test_verdicts
from tests.analysis.simulations.test_verdicts import MARGIN, QUESTION

POOLS = (5, 8, 12, 20)
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def collapsing(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal pools, of which one in ten is 20 standard deviations lower; the mean is zero."""
    values: np.ndarray = random.normal(0, 1, shape) - 20.0 * (random.random(shape) < 0.1) + 2.0
    return values


DRAWS: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(0, 1, shape),
    "exponential": lambda random, shape: random.exponential(1, shape) - 1,
    "lognormal": lambda random, shape: random.lognormal(0, 1, shape) - math.exp(0.5),
    "one pool in ten collapses": collapsing,
}
EASY = ("normal", 0.3)
CELLS = [EASY, ("normal", 1.5), ("exponential", 0.5), ("lognormal", 0.5), ("one pool in ten collapses", 0.1)]
"""Distributions and scales of the differences of pools, the margin being 0.5."""


def claimed(expected: Expected, *verdicts: str) -> Callable[[Estimate], bool]:
    """Whether a claim has one of these verdicts."""
    return lambda one: claim_verdict(one, expected) in verdicts


def holds(truth: float) -> Callable[[Estimate], bool]:
    """Whether the interval holds the true effect."""
    return lambda one: one.low <= truth <= one.high


ONE_CELL: list[tuple[str, float, Callable[[Estimate], bool]]] = [
    ("the 95% interval holds the effect", 0.0, holds(0.0)),
    ("wrong: equivalent (`no difference` is supported)", MARGIN, claimed("zero", SUPPORTED)),
    ("wrong: beyond the margin (`no difference` is refuted)", 0.4, claimed("zero", REFUTED)),
    ("wrong: beyond the margin (`no difference` is refuted)", MARGIN, claimed("zero", REFUTED)),
    ("wrong: `different`", 0.0, claimed("zero", DIFFERENT, REFUTED)),
    ("wrong: a direction is supported", 0.0, claimed("above", SUPPORTED)),
    ("wrong: a direction is refuted", 0.0, claimed("above", REFUTED)),
    ("right: equivalent", 0.0, claimed("zero", SUPPORTED)),
    ("right: beyond the margin", 2 * MARGIN, claimed("zero", REFUTED)),
    ("right: a direction is supported", MARGIN, claimed("above", SUPPORTED)),
]


def one_cell(number: int) -> None:
    """Claims about one cell by the distribution of its pools, with 5, 8, 12 and 20 of them in each entry."""
    head("verdict", "true effect", *(f"{name}, {scale:g}" for name, scale in CELLS))
    noise = {name: [draw(np.random.default_rng(n), (number, n)) for n in POOLS] for name, draw in DRAWS.items()}
    for words, effect, is_found in ONE_CELL:
        entries = []
        for name, scale in CELLS:
            found = [[unit_mean(effect + scale * values, QUESTION) for values in made] for made in noise[name]]
            entries.append(" / ".join(f"{100 * np.mean([is_found(one) for one in each]):.1f}" for each in found))
        line(words, f"{effect:g}", *entries)


SIZES = ((2, 5), (2, 12), (6, 5), (6, 12))
General = tuple[str, str, Callable[[int], np.ndarray], float, Expected, tuple[str, ...], str]
SEVERAL: list[General] = [
    ("wrong: `no difference` in each", "one .5, others 0", lambda n: first(n), 0.3, "zero", (SUPPORTED,), ""),
    ("wrong: `no difference` in each", "one .5, others 0", lambda n: first(n), 1.0, "zero", (SUPPORTED,), ""),
    ("wrong: a direction in each", "half 0, half 2", lambda n: halves(n, 0, 2), 0.3, "above", (SUPPORTED,), "in each"),
    ("wrong: a direction in each", "half 0, half 2", lambda n: halves(n, 0, 2), 1.0, "above", (SUPPORTED,), "in each"),
    ("wrong: a direction", "0", lambda n: halves(n, 0, 0), 1.0, "above", (SUPPORTED, REFUTED), ""),
    ("wrong: a direction", "half -1, half 1", lambda n: halves(n, -1, 1), 1.0, "above", (SUPPORTED, REFUTED), ""),
    ("wrong: `different`", "0", lambda n: halves(n, 0, 0), 1.0, "zero", (DIFFERENT, REFUTED), ""),
    ("wrong: `no difference` is refuted", ".5", lambda n: halves(n, 0.5, 0.5), 0.5, "zero", (REFUTED,), ""),
    (
        "wrong: `no difference` is refuted",
        "half .2, half .8",
        lambda n: halves(n, 0.2, 0.8),
        0.5,
        "zero",
        (REFUTED,),
        "",
    ),
    ("wrong: `depends on`", "0", lambda n: halves(n, 0, 0), 1.0, "above", (DEPENDS,), ""),
    ("wrong: `depends on`", "1", lambda n: halves(n, 1, 1), 1.0, "above", (DEPENDS,), ""),
    ("right: `no difference` in each", "0", lambda n: halves(n, 0, 0), 0.3, "zero", (SUPPORTED,), "in each"),
    ("right: a direction", "1", lambda n: halves(n, 1, 1), 1.0, "above", (SUPPORTED,), ""),
    ("right: `depends on`", "half -1, half 1", lambda n: halves(n, -1, 1), 1.0, "above", (DEPENDS,), ""),
]


def first(n: int) -> np.ndarray:
    """Effects of `n` cells, of which the first has that of the margin."""
    return np.where(np.arange(n) == 0, MARGIN, 0.0)


def halves(n: int, one: float, other: float) -> np.ndarray:
    """Effects of `n` cells, of which half have one and half the other."""
    return np.repeat([float(one), float(other)], n // 2)


def several_cells(number: int) -> None:
    """Claims about several cells by the true effects of the cells."""
    head(
        "general verdict", "true effects", "SD of pools", *(f"{cells} cells of {pools} pools" for cells, pools in SIZES)
    )
    noise = [np.random.default_rng(size).normal(0, 1, (number, *size)) for size in SIZES]
    for words, truth, effects, scale, expected, verdicts, scope in SEVERAL:
        found = [test_cells.studies(one, effects(one.shape[1]), scale, expected) for one in noise]
        shares = [test_cells.share(each, *verdicts, scope=scope) for each in found]
        line(words, truth, f"{scale:g}", *(f"{100 * share:.1f}" for share in shares))


def defects(number: int, pools: int, change: float, spread: float) -> pd.Series:
    """The share of studies of nine defects, each of which changes the effect alike, by the verdicts that occur."""
    random = np.random.default_rng(pools)
    numbers = {str(pool): pool for pool in range(pools)}
    seen = []
    for _ in range(number):
        correct = random.normal(0.8, 1, pools)
        made = {str(n): correct + change + random.normal(0, spread, pools) for n in range(9)}
        values = {name: test_verdicts.pool_values(one) for name, one in made.items()}
        seen += sorted(
            {one.verdict for one in effect_changes(test_verdicts.pool_values(correct), values, numbers).values()}
        )
    return pd.Series(seen).value_counts() / number


def audited(number: int) -> None:
    """The audit of nine defects."""
    head("nine defects, any verdict", "true change", "SD of the change", *(f"{n} pools" for n in POOLS))
    for words, change, verdict in (("wrong: `changed`", 0.0, CHANGED), ("wrong: `unchanged`", MARGIN, UNCHANGED)):
        for spread in (0.3, 1.0):
            shares = [defects(number, pools, change, spread).get(verdict, 0.0) for pools in POOLS]
            line(words, f"{change:g}", f"{spread:g}", *(f"{100 * share:.1f}" for share in shares))


def scaled(number: int) -> None:
    """Claims on the loss under scaling of networks that keep the same share above chance."""
    head("loss under scaling, same relative curve", "soup", "members", *(f"{n} pools" for n in POOLS))
    for words, verdict, soup, single in (
        ("wrong: the soup loses less", "supported", 0.6, 0.95),
        ("wrong: the soup loses more", "refuted", 0.97, 0.93),
    ):
        shares = [scaling_share(number, pools, soup, single, verdict) for pools in POOLS]
        line(words, f"{soup:g}", f"{single:g}", *(f"{100 * share:.1f}" for share in shares))


def scaling_share(number: int, pools: int, soup: float, single: float, verdict: str) -> float:
    """How often the claim on retention has a verdict."""
    made = test_floor.networks(pools, soup, single, studies=number, seed=1)
    return float(test_floor.verdicts(test_floor.differences(made).loc["retention area above 1"]).get(verdict, 0.0))


def looked_at() -> None:
    """Claims that are looked at after every pool from 5 to 20."""
    pools = np.array(test_looks.POOLS)
    means, errors = test_looks.growing()
    differ = 2 * stdtr(pools - 1, -np.abs(means / errors))
    equivalent = stdtr(pools - 1, (np.abs(2.0 + means) - 2.0) / errors)
    head(
        "looks after each pool from 5 to 20", "wrong: `different`, effect 0", "wrong: equivalent, effect of the margin"
    )
    tests = ((differ, 2), (equivalent, 1))
    line("without correction", *(f"{100 * (p <= 0.05).any(axis=1).mean():.1f}" for p, _ in tests))
    for mode, plan, kept in test_looks.MODES:
        found = [(p <= test_looks.levels(plan, kept, sides)).any(axis=1).mean() for p, sides in tests]
        line(mode, *(f"{100 * share:.1f}" for share in found))


def smooth_curves() -> None:
    """Stages found in smooth curves."""
    weights = ((11, 0.05), (21, 0.0), (21, 0.02))
    head("wrong: stages of a smooth curve", *(f"{n} weights, noise {noise:g}" for n, noise in weights))
    for name, shape in test_paths.SMOOTH.items():
        found = [test_paths.won(shape, noise, n, test_paths.POPULATIONS) for n, noise in weights]
        line(name, *(f"{100 * float(one['estimate'].notna().mean()):.1f}" for one in found))


def head(*columns: str) -> None:
    """Print the head of a table in Markdown."""
    print()  # noqa: T201
    line(*columns)
    line(*("---" for _ in columns))


def line(*entries: str) -> None:
    """Print one line of a table."""
    print("|", " | ".join(entries), "|", flush=True)  # noqa: T201


def rest(number: int) -> None:
    """Defects, scaled networks and stages."""
    audited(number // 8)
    scaled(number // 2)
    looked_at()
    smooth_curves()


PARTS: dict[str, Callable[[int], None]] = {"one": one_cell, "cells": several_cells, "rest": rest}


def main(number: int, names: Sequence[str]) -> None:
    """Print the chosen tables."""
    for name in names:
        PARTS[name](number)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:] or list(PARTS))
