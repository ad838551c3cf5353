"""Probability that one method beats another."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.inference.stratified_bootstrap import Quantities, bootstrap, cell_mean
from analysis.statistics._scores import cells_and_all

CITES = ("agarwal2021precipice", "hesterberg2015teachers")


def improvement_probability(
    candidates: pd.DataFrame,
    a: str = "uniform_soup",
    b: str = "logit_average",
    *,
    metric: str = "accuracy",
    same_pool: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Probability that `a` has a better score than `b`, ties counting half: how often it wins, not by how much.

    With `same_pool` both merge the same new pool; otherwise `a` merges one new pool and `b` another of the same
    population, as in rliable (Mann and Whitney's U over all pairs of pools), where differences between pools count. One
    row per population and, for several, one of `all populations`: the mean over populations. Intervals are of a
    bootstrap over pools, stratified by population, with 2,000 draws from `seed`; where `a` wins in every pool or in
    none, the other end is the exact limit of that many pools. Scores, exclusions and errors are those of `ranks`.
    """
    statistic = same_pool_wins if same_pool else any_pools_wins
    found = []
    for one in cells_and_all(candidates, metric, [a, b]):
        pools = "the same new pool" if same_pool else "new pools"
        name = f"P({metric} of {a} is better than of {b}), {pools}"
        values = one.values[:, [one.labels.index(a), one.labels.index(b)]]
        about = Quantities([name], one.warnings, (0.0, 1.0))
        (row,) = bootstrap(values, one.populations, statistic, about, seed)
        found.append({"population": one.population, **asdict(row)})
    return pd.DataFrame(found)


def same_pool_wins(values: NDArray[np.float64], strata: NDArray[np.object_]) -> NDArray[np.float64]:
    """The share of pools in which the first method is better, (..., pools, 2) to (..., 1), mean over strata."""
    return cell_mean((np.sign(values[..., :1] - values[..., 1:]) + 1) / 2, strata)


def any_pools_wins(values: NDArray[np.float64], strata: NDArray[np.object_]) -> NDArray[np.float64]:
    """The share of pairs of pools of a stratum in which the first method is better, mean over strata."""
    shares = []
    for name in sorted(set(strata)):
        own = values[..., strata == name, :]
        wins = np.sign(own[..., :, None, 0] - own[..., None, :, 1])
        shares.append((wins.mean(axis=(-2, -1)) + 1) / 2)
    return np.asarray(np.mean(shares, axis=0))[..., None]
