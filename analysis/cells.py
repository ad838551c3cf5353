"""Populations as cells: one value per pool, averaged over populations that are fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.errors import NothingToDrawError
from analysis.estimate import Estimate, Question, spread, student, unit_mean
from analysis.frames import UNIT
from analysis.pairing import compared, differences, left_out


def these_cells(
    values: np.ndarray,
    populations: np.ndarray,
    question: Question,
    told: Sequence[str] = (),
    shares: np.ndarray | None = None,
) -> Estimate:
    """The weighted sum of the cells' means, each cell with the spread of its own pools; equal shares by default.

    `values` and `populations` have one entry per pool, `shares` one per population in sorted order. Stratified t with
    Satterthwaite's df; one pool in a cell gives no interval.
    """
    names = sorted(set(populations))
    cells = [values[populations == name] for name in names]
    shares = np.full(len(names), 1 / max(len(names), 1)) if shares is None else shares
    if not names:
        return unit_mean(values, question, told)
    estimate = float(sum(share * cell.mean() for share, cell in zip(shares, cells, strict=True)))
    alone = [name for name, cell in zip(names, cells, strict=True) if len(cell) == 1]
    if alone:
        told = (*told, f"one pool in `{alone[0]}`: no interval can be given")
        return student(estimate, math.nan, 0.0, len(values), question, told)
    parts = [
        ((share * spread(cell)) ** 2 / len(cell), len(cell) - 1) for share, cell in zip(shares, cells, strict=True)
    ]
    variance = sum(part for part, _ in parts)
    shared = sum(part**2 / df for part, df in parts)
    df = variance**2 / shared if shared > 0 else float(len(values) - len(cells))
    return student(estimate, math.sqrt(variance), df, len(values), question, told)


def per_pool(
    candidates: pd.DataFrame, a: str, b: str, metric: str = "accuracy"
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Metric of `a` minus that of `b` on identical subsets, one `value` per pool, and what was left out.

    Mean over the subsets of each size, then over sizes, so that no size weighs more for having more subsets. Columns:
    population, pool_id, architecture, start, value. Raises NothingToDrawError where no pool has both.
    """
    rows = compared(candidates, a, b, metric, ["n_members"])
    pairs = differences(rows, a, b, metric, ["n_members"]).assign(group=0)
    used = pairs[pairs["reason"] == ""]
    if used.empty:
        raise NothingToDrawError("candidates", f"no subset has both `{a}` and `{b}`")
    sizes = used.groupby([*UNIT, "n_members"], sort=True, observed=True)["value"].mean()
    pools = sizes.groupby(level=list(UNIT), sort=True, observed=True).mean().reset_index()
    about = rows.drop_duplicates("pool_id")[["pool_id", "architecture", "start"]]
    return pools.merge(about, on="pool_id"), tuple(left_out(pairs, 1)[0])


def contrast(candidates: pd.DataFrame, a: str, b: str, *, margin: float, metric: str = "accuracy") -> Estimate:
    """Metric of `a` minus that of `b` on identical subsets, for new pools of the populations at hand."""
    pools, told = per_pool(candidates, a, b, metric)
    question = Question(f"{metric}: {a} minus {b}, for new pools of these populations", "pool", 0.0, margin)
    return over_cells(pools, question, told)


def over_cells(pools: pd.DataFrame, question: Question, told: Sequence[str] = ()) -> Estimate:
    """`these_cells` of a frame with `population` and `value`."""
    values, populations = pools["value"].to_numpy(float), pools["population"].to_numpy(object)
    return these_cells(values, populations, replace(question, unit="pool"), told)
