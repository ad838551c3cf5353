"""Scores of several methods on identical subsets, one per pool; shared by `ranks` and the statistics of rliable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.rows.groups import column_codes, group_ids
from analysis.rows.pairing import KEY
from analysis.rows.select import (
    MEAN_MEMBER,
    POINTS,
    exclusion_reason,
    refuse_duplicates,
    refuse_mixture,
    require,
    select_split,
    with_mean_member,
)
from sweep.core.text import did_you_mean

DECIMALS = 12
"""Scores are rounded, so that equal accuracies are ties."""
HIGHER_IS_BETTER = ("accuracy",)
ALL = "all"


@dataclass(frozen=True)
class Scores:
    """The scores of methods on the same subsets: `values` is (pools, labels), higher is better.

    `populations` and `pool_ids` are of the pools, in order; `population` is `all` if the pools are of several.
    """

    population: str
    labels: list[str]
    populations: np.ndarray
    pool_ids: np.ndarray
    values: NDArray[np.float64]
    warnings: tuple[str, ...]


def scores(
    candidates: pd.DataFrame, metric: str, labels: Sequence[str] = (), *, together: bool = False
) -> list[Scores]:
    """The scores of each population, or of all `together`: the mean over subsets of a size, then over sizes.

    A metric other than accuracy is a loss; its sign is reversed. Only subsets that every method has are used. Without
    `labels`, the methods are those merges, with the mean member, that share the most subsets; others are named in
    `warnings`. Raises AnalysisError for a missing column, duplicated rows and a label that no row has, and
    NothingToDrawError if no two methods share a subset.
    """
    require(candidates, ["n_members", metric])
    rows = select_split(candidates)
    refuse_duplicates(rows, [*KEY, "label"])
    refuse_mixture(rows, ["population"])
    rows = with_mean_member(rows)
    rows = rows[(rows["n_members"] > 1) & ~rows["method"].isin(POINTS)]
    known = sorted(set(rows["label"]))
    for label in labels:
        if label not in known:
            raise AnalysisError("rows", f"no rows of `{label}`", did_you_mean(label, known))
    if rows.empty:
        raise NothingToDrawError("candidates", "no merges of two or more members without scaling")
    rows = rows.assign(value=rows[metric].astype(np.float64), reason=exclusion_reason(rows, metric))
    groups = [(ALL, rows)] if together else list(rows.groupby("population", sort=True, observed=True))
    sign = 1.0 if metric in HIGHER_IS_BETTER else -1.0
    return [_scores(str(name), group, labels, sign) for name, group in groups]


def _scores(name: str, rows: pd.DataFrame, labels: Sequence[str], sign: float) -> Scores:
    """The scores of one group of rows."""
    number, first = group_ids(rows, KEY)
    code, _ = column_codes(rows["label"])
    every = np.unique(code)
    names = rows["label"].astype(object).iloc[np.unique(code, return_index=True)[1]].tolist()
    column = np.searchsorted(every, code)
    evaluated = np.zeros((len(first), len(every)), bool)
    evaluated[number, column] = True
    values = np.full(evaluated.shape, np.nan)
    used = (rows["reason"] == "").to_numpy()
    values[number[used], column[used]] = rows["value"].to_numpy()[used]
    place = rows[["population", "pool_id", "n_members"]].iloc[first].astype(object)
    chosen = [names.index(label) for label in labels if label in names] if labels else _shared(evaluated, place)
    whole = np.isfinite(values[:, chosen]).all(axis=1)
    if len(chosen) < 2 or not evaluated[:, chosen].all(axis=1).any():
        raise NothingToDrawError("candidates", f"no two methods on the same subsets in `{name}`")
    frame = place[whole].assign(**{str(k): values[whole, one] for k, one in enumerate(chosen)})
    columns = [str(k) for k in range(len(chosen))]
    sizes = frame.groupby(["population", "pool_id", "n_members"], sort=True)[columns].mean()
    pools = sizes.groupby(level=["population", "pool_id"], sort=True).mean()
    warnings = _warnings(
        rows, np.isin(column, chosen), evaluated[:, chosen], [n for k, n in enumerate(names) if k not in chosen]
    )
    ids = [pools.index.get_level_values(level).to_numpy(object) for level in ("population", "pool_id")]
    found = np.round(sign * pools.to_numpy(np.float64), DECIMALS)
    return Scores(name, [names[one] for one in chosen], *ids, found, tuple(warnings))


def _shared(evaluated: NDArray[np.bool_], place: pd.DataFrame) -> list[int]:
    """The methods that share subsets in every population, with the largest product of methods and subsets."""
    kinds = np.unique(evaluated, axis=0)
    populations, _ = column_codes(place["population"])
    best: tuple[int, int, list[int]] = (0, 0, [])
    for kind in kinds:
        chosen = np.flatnonzero(kind)
        whole = evaluated[:, chosen].all(axis=1)
        size = len(chosen) * int(whole.sum())
        if len(np.unique(populations[whole])) == len(np.unique(populations)):
            best = max(best, (size, len(chosen), chosen.tolist()))
    return best[2]


def _warnings(
    rows: pd.DataFrame, chosen: NDArray[np.bool_], evaluated: NDArray[np.bool_], others: Sequence[str]
) -> Iterator[str]:
    """What was left out: rows by their reason, subsets that not every method has, other methods."""
    reasons: Counter[Any] = Counter(rows["reason"].to_numpy(object)[chosen])
    for reason, n in sorted(reasons.items()):
        if reason:
            yield f"{n} row{'s' * (n > 1)} left out: {reason}"
    partly = int((evaluated.any(axis=1) & ~evaluated.all(axis=1)).sum())
    if partly:
        yield f"{partly} subset{'s' * (partly > 1)} left out: not evaluated with every method"
    left_out = [name for name in others if name != MEAN_MEMBER]
    if left_out:
        yield f"methods left out, on other subsets: {', '.join(left_out)}"
