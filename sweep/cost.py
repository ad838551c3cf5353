"""About how long a sweep will take, from what earlier rows took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import pyarrow as pa

from sweep.files import StoreError
from sweep.spec import Execution
from sweep.state import State
from sweep.store import RunFolder

Quartiles = tuple[float, float]
Cell = tuple[str, str, str]  # architecture, data set, and method or nothing


def estimate(state: State, execution: Execution, cores: int) -> dict[str, Any] | None:
    """Seconds from `low` to `high` by the quartiles of earlier rows in the storage folder, and how many rows those are.

    None where nothing like it was run.
    """
    measured, rows = _measured(state.plan.sweep.folder.parent)
    needed = Counter[Cell]()
    for member in state.missing:
        needed[member.population.architecture.name, member.population.dataset.name, ""] += 1
    for work in state.blocks.values():
        for candidate, splits in work:
            population = state.plan.pool_of[candidate.pool_id].population
            needed[population.architecture.name, population.dataset.name, candidate.method.name] += len(splits)
    known = {cell: count for cell, count in needed.items() if cell in measured}
    if not known:
        return None
    workers = max(1, cores // execution.threads) if execution.workers == "auto" else execution.workers
    low, high = (sum(measured[cell][end] * count for cell, count in known.items()) / workers for end in (0, 1))
    unknown = sorted({cell[2] or "training" for cell in needed if cell not in measured})
    return {"low_seconds": low, "high_seconds": high, "workers": workers, "from_rows": rows, "not_estimated": unknown}


def _measured(storage: Path) -> tuple[Mapping[Cell, Quartiles], int]:
    """Quartiles of seconds per cell over every run folder, and the number of rows."""
    seconds: dict[Cell, list[float]] = {}
    for folder in (RunFolder(path.parent) for path in sorted(storage.glob("*/run.json"))):
        columns = ["architecture", "dataset", "method", "merge_seconds", "evaluate_seconds"]
        try:
            members = folder.read("members", ["architecture", "dataset", "role", "train_seconds"])
            candidates = folder.read("candidates", columns)
        except StoreError:  # another run's damage is no reason not to plan this one
            continue
        _collect(seconds, members, "train_seconds", lambda row: "" if row["role"] == "member" else None)
        _collect(seconds, candidates, "evaluate_seconds", lambda row: row["method"])
    return {cell: _quartiles(values) for cell, values in seconds.items()}, sum(map(len, seconds.values()))


def _collect(seconds: dict[Cell, list[float]], table: pa.Table, column: str, label: Any) -> None:
    for row in table.to_pylist():
        name = label(row)
        if name is not None and row[column] is not None:
            cell = (row["architecture"], row["dataset"], name)
            seconds.setdefault(cell, []).append(row[column] + (row.get("merge_seconds") or 0.0))


def _quartiles(values: Sequence[float]) -> Quartiles:
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third
