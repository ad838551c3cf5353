"""Growth of a metric with the number of merged members."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.inference.estimate import ROUNDING
from analysis.inference.laws import LAWS
from analysis.rows.groups import group_ids
from analysis.rows.pairing import group_warnings
from analysis.rows.select import (
    FIXED,
    MEAN_MEMBER,
    METRICS,
    UNIT,
    exclusion_reason,
    refuse_duplicates,
    refuse_mixture,
    require,
    select_split,
    with_mean_member,
)
from analysis.statistics._growth import Curve, measure, spans
from analysis.statistics._laws import law_rows
from sweep.core.text import did_you_mean

CITES = ("student1908mean", "hothorn2008simultaneous", "schafer2005shrinkage")

BY = ("population", "space", "label")
CELL = ("n_members", "mean", "size")
NO_CURVE = ("single", "interpolation", "plane")
KEY = [*UNIT, "subset", *FIXED]
JOINT = [*UNIT, *FIXED]


def curve(  # noqa: PLR0913 - each is a setting of its own
    candidates: pd.DataFrame,
    *,
    value: str = "gain",
    law: str | None = None,
    single: bool = False,
    eps: float = 0.001,
    margin: float | None = None,
    by: Sequence[str] = BY,
) -> pd.DataFrame:
    """Growth with the number of members N: means at the sizes measured and steps between them, per group.

    `value` is `gain` (accuracy minus that of the subset's mean member) or a metric, in its unit. Rows: `quantity` named
    as the value, at each of the `sizes`; `step`, what one more member adds between two sizes, per member; `N*`, the
    smallest size from which on every measured step is below `eps` per member. The 95% intervals of the means hold
    together, and so do those of the steps (max-t over pools); gains and steps are tested against 0, steps with the
    margin `eps`. N* has every size that the intervals of the steps allow; it is NaN if it is not below the largest size
    in all of them, and if the value does not grow from the smallest to the largest size.

    With a `law`, fixed before looking at the data, rows `a`, `b`, `c` follow: its coefficients, all sizes of equal
    weight. `inverse` a - b/N, `root` a - b/√N, `log` a + b log N are fitted in each pool, then Student's t; `power`
    a - b N^-c, `shifted` a - b/(N + c) have one c for all pools, and no coefficient if the sizes do not determine it.
    The first three have `N* of the law`, which may lie beyond the sizes. One row `left-out error` per law gives its
    prediction error (`score`) at sizes left out of the fit. With `single`, the law begins at N = 1. Intervals assume
    that the law is true: a law chosen for its error covers 60 to 86% only.

    Warnings name laws that predict no worse, count rows that are left out, and report sizes with one subset per pool,
    and nested subsets, whose trends arise by chance. Raises AnalysisError for a missing column, duplicated rows, an
    unknown value or law, or a group that mixes splits, protocols or scalings.
    """
    if law is not None:
        _check_choice("law", law, LAWS)
    found = curves(candidates, value=value, eps=eps, margin=margin, by=by)
    rows = []
    for one in found:
        rows += _measured_rows(one, value)
        rows += law_rows(one, value, LAWS[law], single=single, eps=eps, margin=margin) if law is not None else []
    return pd.DataFrame(rows)


def curves(
    candidates: pd.DataFrame,
    *,
    value: str = "gain",
    eps: float = 0.001,
    margin: float | None = None,
    by: Sequence[str] = BY,
) -> list[Curve]:
    """The measured curve of every group, in order; arguments and errors as of `curve`."""
    _check_choice("value", value, ["gain", *METRICS])
    rows = _values(candidates, value, by)
    group, firsts = group_ids(rows, by)
    keys = rows.iloc[firsts][list(by)].to_dict("records")
    rows = rows.assign(group=group).iloc[np.argsort(group_ids(rows, [*by, *UNIT, "subset"])[0], kind="stable")]
    refuse_mixture(rows, ["group"])
    about = group_warnings(rows, len(keys), "subset")
    used = rows[rows["reason"] == ""]
    cells = used.groupby(["group", *UNIT, "n_members"], sort=True)["value"].agg(["mean", "size"]).reset_index()
    bounds = np.arange(len(keys) + 1)
    ends = np.searchsorted(cells["group"], bounds)
    own = np.searchsorted(used["group"], bounds)
    pool, _ = group_ids(cells, ["group", *UNIT])
    found = []
    for index, key in enumerate(keys):
        here = slice(ends[index], ends[index + 1])
        span = slice(own[index], own[index + 1])
        sizes, values, counts = _pool_matrices(pool[here], *(cells[name].to_numpy()[here] for name in CELL))
        warnings = (*about[index], *_subset_warnings(sizes, counts, used.iloc[span]))
        found.append(measure(key, sizes, values, warnings, value=value, eps=eps, margin=margin))
    return found


def _check_choice(what: str, name: str, known: Iterable[str]) -> None:
    """Raises AnalysisError unless `name` is one of the known values."""
    if name == "auto":
        hint = f"no law is chosen from the data; name one before looking at them ({', '.join(known)}), or none"
        raise AnalysisError(what, f"no `{name}`", hint)
    if name not in known:
        raise AnalysisError(what, f"no `{name}`", did_you_mean(name, list(known)))


def _values(candidates: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """One line per subset of a merge, and per single member in each group, with `value`, `reason` and `level`."""
    metric = "accuracy" if value == "gain" else value
    require(candidates, ["n_members", *(METRICS if value == "gain" else [metric])])
    rows = select_split(candidates, by)
    refuse_duplicates(rows, [*KEY, "label"])
    rows = rows.assign(value=rows[metric].astype(float), reason=exclusion_reason(rows, metric))
    rows = rows.assign(level=rows["value"] if metric == "accuracy" else np.nan)
    merges = rows[(rows["n_members"] > 1) & ~rows["method"].isin(NO_CURVE)]
    if merges.empty:
        raise NothingToDrawError("candidates", "no merges of two or more members without scaling")
    single = rows[rows["method"] == "single"]
    if value == "gain":
        merges = _gains(merges, with_mean_member(rows))
        single = single.assign(value=0.0)
    keep = [*JOINT, "subset", "n_members", "value", "reason", "level"]
    groups = merges[list(dict.fromkeys([*by, *JOINT]))].drop_duplicates()
    alone = groups.merge(single[keep], on=JOINT)
    return pd.concat([merges[list(dict.fromkeys([*by, *keep]))], alone], ignore_index=True)


def _gains(merges: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The merges with their gain over the mean of the subset's single members as `value`."""
    mean = rows.loc[rows["method"] == MEAN_MEMBER, [*KEY, "accuracy", "status"]]
    joint = merges.merge(mean, "left", on=KEY, suffixes=("", "_mean"))
    missing = (joint["reason"] == "") & (joint["status_mean"] != "ok")
    reason = joint["reason"].mask(missing, "a single member is missing")
    gain = joint["value"] - joint["accuracy_mean"].astype(float)
    return joint.assign(value=gain.mask(gain.abs() <= ROUNDING * joint["value"].abs(), 0.0), reason=reason)


def _pool_matrices(
    pool: np.ndarray, size: np.ndarray, mean: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sizes of a group, its (pools, sizes) means over subsets (NaN without a subset), and counts of subsets."""
    sizes, column = np.unique(size.astype(float), return_inverse=True)
    row = pool - pool[0] if len(pool) else pool
    values = np.full((int(row.max(initial=-1)) + 1, len(sizes)), np.nan)
    counts = np.zeros(values.shape, int)
    values[row, column] = mean
    counts[row, column] = count
    return sizes, values, counts


def _subset_warnings(sizes: np.ndarray, counts: np.ndarray, rows: pd.DataFrame) -> list[str]:
    """Warnings for sizes with one subset per pool, and for nested subsets."""
    alone = (counts.max(axis=0, initial=0) == 1) & (sizes > 1)
    warnings = [f"one subset per pool at N = {', '.join(f'{size:g}' for size in sizes[alone])}"] if alone.any() else []
    if alone.sum() < 2 or not alone[sizes > 1].all():
        return warnings
    merges = rows[rows["n_members"] > 1].sort_values("n_members", kind="stable")
    chains = [[set(text.split("|")) for text in pool] for _, pool in merges.groupby("pool_id")["subset"]]
    nested = all(small < large for chain in chains for small, large in itertools.pairwise(chain))
    return [*warnings, "nested subsets, each within the next: trends arise by chance"] if nested else warnings


def _measured_rows(one: Curve, value: str) -> list[dict[str, Any]]:
    """The rows of one group without a law."""
    head = {**one.key, "law": "", "score": np.nan}
    found = [
        {**head, "sizes": f"{size:g}", "quantity": value, **asdict(estimate)}
        for size, estimate in zip(one.merged, one.gains, strict=True)
    ]
    found += [
        {**head, "sizes": f"{a:g}, {b:g}", "quantity": "step", **asdict(estimate)}
        for (a, b), estimate in zip(spans(one.merged), one.steps, strict=True)
    ]
    all_sizes = ", ".join(f"{size:g}" for size in one.merged)
    return [*found, {**head, "sizes": all_sizes, "quantity": "N*", **asdict(one.enough)}]
