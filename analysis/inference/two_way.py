"""Means over pools that share test examples: both are samples, and each adds to the variance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.inference.estimate import LEVEL, NO_SPREAD, ROUNDING, Estimate, Question, student, verdict_of


def target(*, new_examples: bool, new_splits: bool = False) -> str:
    """What an interval is for: what varies, new seeds and what else is sampled, and what is fixed."""
    varied = [
        "new seeds",
        *(["new training splits"] if new_splits else []),
        *(["new test images"] if new_examples else []),
    ]
    fixed = [*([] if new_examples else ["these test images"]), *([] if new_splits else ["this training split"])]
    return ", ".join([f"for {' and '.join(varied)}", *fixed])


IDENTICAL = "identical on"
"""How the warning begins of methods that agree on every test example."""


@dataclass(frozen=True)
class Examples:
    """The mean difference of one pool on each example of a test set, shape (examples,), and the test set's name.

    `reach` is the largest that it can be on one example: 1 for two methods, 2 for a difference of two differences.
    """

    test_set: str
    values: np.ndarray
    reach: float = 1.0

    @property
    def key(self) -> tuple[str, int]:
        """What pools with the same examples have in common."""
        return self.test_set, len(self.values)


@dataclass(frozen=True)
class Spreads:
    """The differences of one group: number of pools, mean, and standard errors of the mean."""

    pools: int = 0
    estimate: float = math.nan
    se_pools: float = math.nan
    se_examples: float = math.nan
    se: float = math.nan


def rounded(values: np.ndarray) -> np.ndarray:
    """The differences, 0 where they differ from it by rounding alone."""
    found: np.ndarray = np.where(np.abs(values) <= ROUNDING, 0.0, values)
    return found


def spreads(matrix: np.ndarray) -> Spreads:
    """The mean and the standard errors of differences of shape (pools, examples)."""
    estimate = float(matrix.mean())
    se_examples = _se(matrix.mean(axis=0))
    if len(matrix) == 1:
        return Spreads(1, estimate, math.nan, se_examples)
    se_pools = _se(matrix.mean(axis=1))
    se = combined(se_pools**2, se_examples**2, interaction(matrix))
    return Spreads(len(matrix), estimate, se_pools, se_examples, se)


def combined(pools: float, examples: float, both: float) -> float:
    """The standard error from the variances over pools, over examples, and of their interaction, which both contain.

    Never below that over pools alone; without spread between pools it is that over examples alone.
    """
    return math.sqrt(max(pools, pools + examples - both) if pools > 0 else examples)


def interaction(matrix: np.ndarray) -> float:
    """The variance of the mean of (pools, examples) by what is neither of the pool nor of the example."""
    pools = len(matrix)
    rest = matrix - matrix.mean(axis=1, keepdims=True) - matrix.mean(axis=0) + matrix.mean()
    return float((rest**2).sum() / ((pools - 1) * (matrix.shape[1] - 1) * matrix.size))


def _se(values: np.ndarray) -> float:
    """The standard error of the mean of the values; 0 where they differ by rounding alone."""
    found = float(values.std(ddof=1)) / math.sqrt(len(values))
    return found if found > ROUNDING else 0.0


def over_examples(
    alone: Estimate, cells: Mapping[str, Sequence[Examples]], shares: Mapping[str, float], question: Question
) -> Estimate:
    """The estimate over pools alone, with an interval for new test examples as well.

    `cells` has the examples of each population's pools, `shares` the weights of the populations' means. Populations on
    one test set share its examples. Where nothing differs on any example, the bound is exact (`identical`).
    """
    if math.isnan(alone.se):
        return alone
    if not any(one.values.any() for pools in cells.values() for one in pools):
        sizes = [len(one.values) for pools in cells.values() for one in pools]
        weight = sum(abs(shares[name]) * max(one.reach for one in pools) for name, pools in cells.items())
        return identical(alone, min(sizes), weight, question)
    sums: dict[tuple[str, int], np.ndarray] = {}
    both = 0.0
    for name, pools in cells.items():
        matrix = np.array([one.values for one in pools])
        key = pools[0].key
        sums[key] = sums.get(key, 0.0) + shares[name] * matrix.mean(axis=0)
        both += shares[name] ** 2 * interaction(matrix)
    examples = sum(_se(total) ** 2 for total in sums.values())
    se = combined(alone.se**2, examples, both)
    return student(alone.estimate, se, alone.df, alone.n_units, question, _other(alone.warnings))


def _other(warnings: Sequence[str]) -> list[str]:
    """The warnings but that of missing spread between pools, which examples may have."""
    return [text for text in warnings if not text.startswith(NO_SPREAD)]


def identical(alone: Estimate, examples: int, weight: float, question: Question) -> Estimate:
    """The estimate of methods that agree on every one of `examples` test examples in every pool.

    The share of examples on which they differ is below 1 - .05^(1/n) at 95% (about 3/n, the rule of three), and the
    difference of accuracies is at most that share times `weight`. Test examples are the units, however many pools agree
    on them. Equivalence has p = (1 - margin)^n, exactly.
    """
    bound = weight * (1 - (1 - LEVEL) ** (1 / examples))
    text = f"{IDENTICAL} {examples} examples in every pool: exact 95% bound of the difference {bound:.3g}"
    margin = question.margin
    close = None if margin is None else max(0.0, 1 - margin / weight) ** examples
    if margin is not None and bound > margin:
        text += f"; a margin of {margin:g} takes {examples_wanted(margin / weight)} examples, not more pools"
    verdict = "" if question.null is None else verdict_of(None, close, None)
    numbers = (alone.n_units, 0.0, 0.0, alone.df, -bound, bound, None, None, margin)
    warnings = (*_other(alone.warnings), text)
    return Estimate(question.estimand, question.unit, *numbers, verdict, warnings, close)


def examples_wanted(margin: float) -> int:
    """The fewest examples without a difference that put its exact 95% bound within the margin."""
    return math.ceil(math.log(1 - LEVEL) / math.log1p(-margin)) if margin < 1 else 1
