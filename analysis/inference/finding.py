"""Finding of a claim: one value per pool, the estimate over pools that decides the claim, and the expected result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from analysis.inference.estimate import Estimate, Question, stratified_mean
from analysis.inference.resampling import bootstrap_t
from analysis.inference.two_way import Examples, over_examples, rounded

Expected = Literal["above", "below", "zero"]


@dataclass(frozen=True)
class PoolValues:
    """One `value` per pool, and the question that their mean over pools answers.

    `frame` has the columns population, pool_id and value. `shares` are the weights of the populations' means in the
    estimate, equal by default. `examples` has the difference on each test example of every pool, by pool_id, where
    predictions are kept; test examples are then a sample as well as pools.
    """

    frame: pd.DataFrame
    question: Question
    warnings: Sequence[str] = ()
    shares: Mapping[str, float] | None = None
    examples: Mapping[str, Examples] | None = None

    @property
    def used(self) -> pd.DataFrame:
        """The rows of `frame` whose population has a share, be it 0: the middle of a slope is measured, too."""
        if self.shares is None:
            return self.frame
        return self.frame[self.frame["population"].isin(list(self.shares))]

    @cached_property
    def estimate(self) -> Estimate:
        """The weighted sum of the populations' means, with Student's t over pools, populations fixed.

        With `examples`, the interval is for new test examples as well (see `analysis.inference.two_way`).
        """
        frame = self.used
        populations = frame["population"].to_numpy(object)
        weights = self.weights
        shares = np.array(list(weights.values()))
        alone = stratified_mean(frame["value"].to_numpy(float), populations, self.question, self.warnings, shares)
        if self.examples is None or not weights:
            return alone
        pools = frame.groupby("population", sort=True, observed=True)["pool_id"]
        cells = {str(name): [self.examples[pool] for pool in own] for name, own in pools}
        return over_examples(alone, cells, weights, self.question)

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each population's mean, in the order of their names."""
        names = sorted(set(self.used["population"].astype(object)))
        return {name: 1 / len(names) if self.shares is None else self.shares[name] for name in names}

    @cached_property
    def bootstrap(self) -> tuple[float, float]:
        """The bootstrap-t interval over pools with the standard error of `estimate`; NaN below 6 pools per population.

        Beside Student's: with skewed pools it covers more.
        """
        cells = [own.to_numpy(float) for _, own in self.used.groupby("population", sort=True, observed=True)["value"]]
        low, high = bootstrap_t(cells, list(self.weights.values()))
        return self.estimate.estimate - high * self.estimate.se, self.estimate.estimate - low * self.estimate.se

    def only(self, populations: Collection[str]) -> PoolValues:
        """The values of some populations, with their shares if there are any."""
        shares = None if self.shares is None else {name: self.shares[name] for name in populations}
        frame = self.frame[self.frame["population"].isin(populations)].reset_index(drop=True)
        return replace(self, frame=frame, shares=shares)

    def minus(self, other: PoolValues, pool_numbers: Mapping[str, int]) -> PoolValues:
        """The values minus those of `other` in the same pools: same population and same number in it.

        Pools that are trained again under a protocol have other ids, but the number of the pool that they replace.
        """
        key = ["population", "number"]
        mine, theirs = (
            values.frame.assign(number=values.frame["pool_id"].astype(object).map(pool_numbers))
            for values in (self, other)
        )
        both = mine.merge(theirs[[*key, "pool_id", "value"]], on=key, suffixes=("", "_other"))
        frame = both.assign(value=both["value"] - both["value_other"])[["population", "pool_id", "value"]]
        question = replace(self.question, estimand=f"change of: {self.question.estimand}")
        examples = _changes(
            self.examples, other.examples, dict(zip(both["pool_id"], both["pool_id_other"], strict=True))
        )
        return PoolValues(frame, question, (), self.shares, examples)


def _changes(
    mine: Mapping[str, Examples] | None, theirs: Mapping[str, Examples] | None, pools: Mapping[str, str]
) -> Mapping[str, Examples] | None:
    """The differences on each example of pools and the pools that they replace; None if test sets are not the same."""
    if mine is None or theirs is None or any(mine[one].key != theirs[other].key for one, other in pools.items()):
        return None
    return {one: _change(mine[one], theirs[other]) for one, other in pools.items()}


def _change(mine: Examples, theirs: Examples) -> Examples:
    """The difference on each example of one test set."""
    return Examples(mine.test_set, rounded(mine.values - theirs.values), mine.reach + theirs.reach)


@dataclass(frozen=True)
class Finding:
    """Result of a claim: values per pool, the side on which their mean lies if the claim holds, and the figure.

    `scale` and `unit` convert the estimate for display, for example to percentage points. `corrected` is the estimate
    with p and verdict corrected for the family of claims. `parts` has named effects whose mean the values are, and
    `part` says what each of them is. `beside` are values in points of accuracy that are shown with the estimate and
    decide nothing.
    """

    values: PoolValues
    expected: Expected
    figure: str
    scale: float = 100.0
    unit: str = "points"
    corrected: Estimate | None = field(default=None, kw_only=True)
    parts: Mapping[str, PoolValues] = field(default_factory=dict, kw_only=True)
    part: str = field(default="arm", kw_only=True)
    beside: PoolValues | None = field(default=None, kw_only=True)

    @property
    def estimate(self) -> Estimate:
        """The estimate that decides the claim, corrected for its family if that is known."""
        return self.corrected or self.values.estimate
