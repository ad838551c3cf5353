"""The gain of a merge by its number of members, pool by pool, at the same two sizes in all pools of a population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.estimate import Question
from analysis.inference.finding import PoolValues
from analysis.inference.two_way import target
from analysis.rows.chance import clear_of_chance
from analysis.rows.examples import pool_examples
from analysis.rows.pairing import group_warnings, has_new_splits, pair_candidates, paired_differences
from analysis.rows.select import MEAN_MEMBER, UNIT

AT_CHANCE = "the merge is at chance"


@dataclass(frozen=True)
class Growth:
    """How a gain is compared at two sizes: the merge, and what is asked of it.

    With `neighbours`, the sizes of a population are its largest and the next smaller one, and the difference is per
    additional model; else they are its largest and its smallest one.
    """

    label: str
    estimand: str
    neighbours: bool
    margin: float

    def measure(self, candidates: pd.DataFrame, predictions: pd.DataFrame | None) -> PoolValues:
        """The difference of the mean gains over the mean member at two sizes, per pool that has both.

        Pools that lack one of them are left out with a warning, as are populations with one size, or of which no pool
        has both, and those whose merge is at chance at both sizes. With predictions the interval is for new test images
        as well. Raises NothingToDrawError if no pool is left.
        """
        rows = pair_candidates(candidates, self.label, MEAN_MEMBER, "accuracy", ["n_members"])
        pairs = paired_differences(rows, self.label, MEAN_MEMBER, "accuracy", ["n_members", "dataset"]).assign(group=0)
        used = pairs[(pairs["reason"] == "") & (pairs["n_members"] > 1)]
        pools, warnings = self._pools(used, self._above_chance(rows))
        shared = used.assign(share=self._shares(used, pools))
        examples = pool_examples(rows, shared[shared["share"] != 0], self.label, MEAN_MEMBER, predictions)
        scope = target(new_examples=examples is not None, new_splits=has_new_splits(rows))
        question = Question(f"{self.estimand}, {scope}", "pool", 0.0, self.margin)
        return PoolValues(pools, question, (*group_warnings(pairs, 1)[0], *warnings), examples=examples)

    def _above_chance(self, rows: pd.DataFrame) -> pd.DataFrame:
        """By population and size: `accuracy` of the merge, `chance`, and `clear` of it; empty if chance is unknown."""
        if "chance" not in rows:
            return pd.DataFrame()
        ok = rows[(rows["label"] == self.label) & (rows["status"] == "ok")]
        examples = ok["n_examples"].to_numpy(float, na_value=np.nan) if "n_examples" in ok else None
        least = clear_of_chance(ok["chance"].to_numpy(float), examples)
        levels = ok.assign(least=least).groupby(["population", "n_members"], observed=True)
        means = levels[["accuracy", "chance", "least"]].mean()
        return means.assign(clear=~(means["accuracy"] < means["least"]))

    def _pools(self, used: pd.DataFrame, levels: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
        """The pools with both sizes, with columns population, pool_id, small, large and value; and what is left out."""
        gains = used.groupby([*UNIT, "n_members"], sort=True, observed=True)["value"].mean().reset_index()
        found = []
        warnings = []
        for population, own in gains.groupby("population", sort=True, observed=True):
            sizes = sorted(set(own["n_members"]))
            if len(sizes) < 2:
                warnings.append(f"`{population}` is left out: it has one size")
                continue
            small = sizes[-2] if self.neighbours else sizes[0]
            at = levels.reindex([(population, small), (population, sizes[-1])]) if len(levels) else levels
            if len(at) and not at["clear"].fillna(True).any():
                warnings.append(_at_chance(self.label, str(population), at))
                continue
            both, lacking = self._at(own, small, sizes[-1])
            found.append(both)
            lack = f"pools of `{population}` lack N = {small} or {sizes[-1]}: left out"
            warnings += [f"{lacking} of {lacking + len(both)} {lack}"] if lacking else []
        if not found or not sum(map(len, found)):
            at_chance = [text for text in warnings if text.startswith(AT_CHANCE)]
            raise NothingToDrawError(
                "candidates", at_chance[0] if at_chance else f"no pool has two sizes of `{self.label}`"
            )
        return pd.concat(found, ignore_index=True), warnings

    def _at(self, gains: pd.DataFrame, small: int, large: int) -> tuple[pd.DataFrame, int]:
        """The pools with both sizes, and the number of others."""
        wide = gains.pivot(index=list(UNIT), columns="n_members", values="value")
        both = wide[[small, large]].dropna()
        value = (both[large] - both[small]).to_numpy() / (large - small if self.neighbours else 1)
        return both.reset_index()[list(UNIT)].assign(small=small, large=large, value=value), len(wide) - len(both)

    def _shares(self, used: pd.DataFrame, pools: pd.DataFrame) -> pd.Series:
        """The weight of each pair in the value of its pool; 0 at other sizes and in pools that are left out."""
        sizes = pools.set_index("pool_id")
        large = used["pool_id"].map(sizes["large"])
        small = used["pool_id"].map(sizes["small"])
        sign = (used["n_members"] == large).astype(float) - (used["n_members"] == small).astype(float)
        subsets = used.groupby(["pool_id", "n_members"], observed=True)["value"].transform("size")
        return sign / subsets / (large - small if self.neighbours else 1)


def _at_chance(label: str, population: str, levels: pd.DataFrame) -> str:
    """Why a population answers nothing about growth, with the accuracies at two sizes."""
    shown = " and ".join(f"{value:.1%}" for value in levels["accuracy"])
    sizes = " and ".join(str(size) for _, size in levels.index)
    about = f"{label} in {population}, {sizes} members: {shown}, chance {levels['chance'].mean():.1%}"
    return f"{AT_CHANCE}: {about}: left out"
