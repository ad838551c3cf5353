"""Finding of a claim: one value per pool, the estimate over pools that decides the claim, and the expected result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from analysis.inference.estimate import Estimate, Question, stratified_mean

Expected = Literal["above", "below", "zero"]


@dataclass(frozen=True)
class PoolValues:
    """One `value` per pool, and the question that their mean over pools answers.

    `frame` has the columns population, pool_id and value. `shares` are the weights of the populations' means in the
    estimate, equal by default.
    """

    frame: pd.DataFrame
    question: Question
    warnings: Sequence[str] = ()
    shares: Mapping[str, float] | None = None

    @cached_property
    def estimate(self) -> Estimate:
        """The weighted sum of the populations' means, with Student's t over pools, populations fixed."""
        frame = self.frame
        shares = self.shares
        if shares is not None:
            frame = frame[frame["population"].isin([name for name, share in shares.items() if share])]
        populations = frame["population"].to_numpy(object)
        weights = None if shares is None else np.array([shares[name] for name in sorted(set(populations))])
        return stratified_mean(frame["value"].to_numpy(float), populations, self.question, self.warnings, weights)

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
        both = mine.merge(theirs[[*key, "value"]], on=key, suffixes=("", "_other"))
        frame = both.assign(value=both["value"] - both["value_other"])[["population", "pool_id", "value"]]
        question = replace(self.question, estimand=f"change of: {self.question.estimand}")
        return PoolValues(frame, question, (), self.shares)


@dataclass(frozen=True)
class Finding:
    """Result of a claim: values per pool, the side on which their mean lies if the claim holds, and the figure.

    `scale` and `unit` convert the estimate for display, for example to percentage points. `corrected` is the estimate
    with p and verdict corrected for the family of claims. `parts` has named effects whose mean the values are. `beside`
    are values in points of accuracy that are shown with the estimate and decide nothing.
    """

    values: PoolValues
    expected: Expected
    figure: str
    scale: float = 100.0
    unit: str = "points"
    corrected: Estimate | None = field(default=None, kw_only=True)
    parts: Mapping[str, PoolValues] = field(default_factory=dict, kw_only=True)
    beside: PoolValues | None = field(default=None, kw_only=True)

    @property
    def estimate(self) -> Estimate:
        """The estimate that decides the claim, corrected for its family if that is known."""
        return self.corrected or self.values.estimate
