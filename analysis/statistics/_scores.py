"""Scores of several methods on identical subsets, one per pool; shared by `ranks` and the statistics of rliable."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.inference.few import near_ceiling
from analysis.rows.groups import column_codes, group_ids
from analysis.rows.pairing import KEY
from analysis.rows.select import (
    MEAN_MEMBER,
    METRICS,
    POINTS,
    exclusion_reason,
    refuse_duplicates,
    refuse_mixture,
    require,
    select_split,
    with_mean_member,
)
from sweep.core.text import did_you_mean, format_count

DECIMALS = 12
"""Scores are rounded, so that equal accuracies are ties."""
HIGHER_IS_BETTER = ("accuracy",)
ALL = "all populations"


@dataclass(frozen=True)
class Scores:
    """The scores of methods on the same subsets: `values` is (pools, labels), higher is better.

    `sign` times the values is in the unit of the metric. `populations` has the population of each pool, in the order of
    their ids; `population` is `all populations` if they are of several.
    """

    population: str
    labels: list[str]
    populations: np.ndarray
    values: NDArray[np.float64]
    sign: float
    warnings: tuple[str, ...]

    def relative_to(self, label: str) -> Scores:
        """The scores minus those of one method, which is left out; unchanged if it is empty.

        Raises AnalysisError for a method that is not among them.
        """
        if not label:
            return self
        if label not in self.labels:
            what = f"`{label}` has no subsets in common with the methods in `{self.population}`"
            raise AnalysisError("relative_to", what, did_you_mean(label, self.labels))
        at = self.labels.index(label)
        others = [k for k in range(len(self.labels)) if k != at]
        gains = np.round(self.values[:, others] - self.values[:, [at]], DECIMALS)
        return replace(self, labels=[self.labels[k] for k in others], values=gains)


def scores(
    candidates: pd.DataFrame, metric: str, labels: Sequence[str] = (), *, together: bool = False
) -> list[Scores]:
    """The scores of each population, or of all `together`: the mean over subsets of a size, then over sizes.

    A metric other than accuracy is a loss; its sign is reversed. Only subsets that every method has are used. Without
    `labels`, the methods are those merges, with the mean member, that share the most subsets; others are named in
    `warnings`. Raises AnalysisError for a missing column, duplicated rows and a label that no row has, and
    NothingToDrawError if no two methods share a subset.
    """
    require(candidates, ["n_members", metric, *METRICS])
    rows = select_split(candidates)
    refuse_duplicates(rows, [*KEY, "label"])
    refuse_mixture(rows, ["population"])
    rows = with_mean_member(rows) if metric in METRICS else rows
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
    found = {str(name): _scores(str(name), group, labels, sign) for name, group in groups}
    usable = [one for one in found.values() if one is not None]
    if not usable:
        where = f"in `{next(iter(found))}`" if len(found) == 1 else "in any population"
        raise NothingToDrawError("candidates", f"no two methods on the same subsets {where}")
    missing = [f"population {name} left out: no two methods on the same subsets" for name in found if not found[name]]
    return [
        replace(one, warnings=(*one.warnings, *missing, *near_ceiling(one.values.ravel(), metric))) for one in usable
    ]


def cells_and_all(candidates: pd.DataFrame, metric: str, labels: Sequence[str] = ()) -> list[Scores]:
    """The scores of each population and, if there are several, of all together. Errors as of `scores`."""
    each = scores(candidates, metric, labels)
    if len(each) > 1:
        with contextlib.suppress(NothingToDrawError):
            return [*each, *scores(candidates, metric, labels, together=True)]
    return each


def _scores(name: str, rows: pd.DataFrame, labels: Sequence[str], sign: float) -> Scores | None:
    """The scores of one group of rows; None if no two methods share a subset."""
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
    if set(labels) - set(names):
        return None
    chosen = [names.index(label) for label in labels] if labels else _shared(evaluated, place)
    whole = np.isfinite(values[:, chosen]).all(axis=1)
    if len(chosen) < 2 or not evaluated[:, chosen].all(axis=1).any():
        return None
    frame = place[whole].assign(**{str(k): values[whole, one] for k, one in enumerate(chosen)})
    columns = [str(k) for k in range(len(chosen))]
    sizes = frame.groupby(["population", "pool_id", "n_members"], sort=True)[columns].mean()
    pools = sizes.groupby(level=["population", "pool_id"], sort=True).mean()
    others = [label for k, label in enumerate(names) if k not in chosen]
    warnings = [*_warnings(rows, np.isin(column, chosen), evaluated[:, chosen], others)]
    absent = sorted(set(place["population"]) - set(frame["population"]))
    warnings += [f"population {one} left out: no subset with every method" for one in absent]
    where = pools.index.get_level_values("population").to_numpy(object)
    found = np.round(sign * pools.to_numpy(np.float64), DECIMALS)
    return Scores(name, [names[one] for one in chosen], where, found, sign, tuple(warnings))


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
            yield f"{format_count(n, 'row')} left out: {reason}"
    partly = int((evaluated.any(axis=1) & ~evaluated.all(axis=1)).sum())
    if partly:
        yield f"{format_count(partly, 'subset')} left out: not evaluated with every method"
    left_out = [name for name in others if name != MEAN_MEMBER]
    if left_out:
        yield f"methods left out, on other subsets: {', '.join(left_out)}"
