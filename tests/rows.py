"""Synthetic rows with the columns of the tables, as frames and as a run folder; the same for the same arguments."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sweep import table

METHODS = [
    ("weights", "uniform_soup", {}, 0.02),
    ("logits", "logit_average", {}, 0.03),
    ("features", "feature_average", {"head": "first"}, 0.025),
    ("features", "feature_average", {"head": "average"}, 0.027),
]
RECIPE = {"sweep": "made", "architecture": "mlp", "dataset": "digits", "start": "shared"}


def candidate(pool: int, members: tuple[int, ...], method: str, **values: Any) -> dict[str, Any]:
    """One row of `candidates` with every column, in the population `people` unless told otherwise."""
    population = values.get("population", "people")
    row: dict[str, Any] = dict.fromkeys(column.name for column in table.COLUMNS["candidates"])
    row |= RECIPE | {"population": population, "pool": pool, "pool_id": f"{population}-{pool}", "method": method}
    row |= {"space": "weights", "settings": "{}", "n_members": len(members), "member_indices": list(members)}
    row |= {"members": [f"{population}-{pool}-{index}" for index in members], "split": "test", "status": "ok"}
    row |= dict.fromkeys(("alignment", "scaling", "repair"), "none")
    row |= {f"{name}_settings": "{}" for name in ("alignment", "scaling", "repair")}
    row |= {"scaling_factor": 1.0, "scaling_members": "all", "accuracy": 0.9, "cross_entropy": 0.3, "brier": 0.1}
    row |= {"ece": 0.02, "finite": True, "protocol": "correct", "n_examples": 360, "device": "cpu"} | values
    told = [row[k] for k in ("pool_id", "members", "method", "settings", "alignment", "scaling_settings", "repair")]
    row["candidate_id"] = row["candidate_id"] or json.dumps(told)
    return row


def candidates(
    *, pools: int = 3, members: int = 4, sizes: tuple[int, ...] = (2, 3), population: str = "people", seed: int = 0
) -> list[dict[str, Any]]:
    """Singles, merges in three spaces, magnified soups and interpolations of every pool of one population."""
    random = np.random.default_rng(seed)
    rows = []
    for pool in range(pools):
        level = 0.9 + 0.02 * random.standard_normal()
        own = {"population": population}
        for index in range(members):
            rows.append(candidate(pool, (index,), "single", accuracy=level + 0.01 * random.standard_normal(), **own))
        for size in sizes:
            for subset in itertools.combinations(range(members), size):
                for space, method, settings, gain in METHODS:
                    accuracy = level + gain + 0.005 * random.standard_normal()
                    told = {"space": space, "settings": json.dumps(settings), "accuracy": accuracy, **own}
                    rows.append(candidate(pool, subset, method, **told))
                rows += _magnified(pool, subset, level, own)
        for pair in itertools.combinations(range(members), 2):
            rows += _path(pool, pair, level, own)
    return rows


def _magnified(pool: int, subset: tuple[int, ...], level: float, own: dict[str, Any]) -> list[dict[str, Any]]:
    """A soup whose members are multiplied; the largest factor overflows."""
    rows = []
    for which, factor in itertools.product(("all", "first"), (0.1, 0.5, 2.0, 10.0, 1000.0)):
        settings = json.dumps({"factor": factor, "members": which})
        lost = {"status": "non_finite", "error": "overflow", "accuracy": None, "cross_entropy": None, "finite": False}
        told = {"scaling": "magnify", "scaling_settings": settings, "scaling_factor": factor, "scaling_members": which}
        told |= {"accuracy": level - 0.1 * np.log10(factor) ** 2, **(lost if factor > 100 else {})}
        rows.append(candidate(pool, subset, "uniform_soup", **told, **own))
    return rows


def _path(pool: int, pair: tuple[int, ...], level: float, own: dict[str, Any]) -> list[dict[str, Any]]:
    """Eleven points between two members, with a hump in the middle."""
    rows = []
    for weight in np.linspace(0, 1, 11).round(3).tolist():
        hump = 4 * weight * (1 - weight)
        told = {"settings": json.dumps({"weight": weight}), "accuracy": level - 0.2 * hump}
        told |= {"cross_entropy": 0.3 + (0.5 + 0.1 * pool) * hump, **own}
        rows.append(candidate(pool, pair, "interpolation", **told))
    return rows


def curves(*, pools: int = 3, members: int = 4, epochs: int = 5, population: str = "people") -> list[dict[str, Any]]:
    """Epochs of every member."""
    rows = []
    for pool, member, epoch in itertools.product(range(pools), range(members), range(1, epochs + 1)):
        row: dict[str, Any] = dict.fromkeys(column.name for column in table.COLUMNS["curves"])
        row |= RECIPE | {"population": population, "pool": pool, "pool_id": f"{population}-{pool}", "role": "member"}
        row |= {"member_id": f"{population}-{pool}-{member}", "member_index": member, "epoch": epoch, "seconds": 1.0}
        row |= {"validation_accuracy": 0.95 - 0.4 / epoch - 0.01 * pool - 0.002 * member, "learning_rate": 0.05}
        row |= {"train_loss": 1.2 / epoch + 0.02 * pool, "validation_cross_entropy": 1.0 / epoch}
        rows.append(row)
    return rows


def members(*, pools: int = 3, members: int = 4, population: str = "people") -> list[dict[str, Any]]:
    """Every member, trained without a hitch."""
    rows = []
    for pool, member in itertools.product(range(pools), range(members)):
        row: dict[str, Any] = dict.fromkeys(column.name for column in table.COLUMNS["members"])
        row |= RECIPE | {"population": population, "pool": pool, "pool_id": f"{population}-{pool}", "role": "member"}
        row |= {"member_id": f"{population}-{pool}-{member}", "member_index": member, "status": "ok"}
        row |= {"n_parameters": 12_345, "validation_accuracy": 0.9, "train_seconds": 2.5, "device": "cpu"}
        rows.append(row)
    return rows


def frame(rows: list[dict[str, Any]], name: str = "candidates") -> pd.DataFrame:
    """Rows as `analysis.load` would give them."""
    return pa.Table.from_pylist(rows, table.schema(name)).to_pandas()


def write(folder: Path, tables: dict[str, list[dict[str, Any]]], info: dict[str, Any] | None = None) -> Path:
    """A run folder with one part per table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        path = folder / "tables" / name / "parts" / "part.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, table.schema(name)), path)
    if info is not None:
        (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


def run_folder(folder: Path, info: dict[str, Any] | None = None, **values: Any) -> Path:
    """A whole small run of one population."""
    counts = {key: value for key, value in values.items() if key in ("pools", "members", "population")}
    tables = {"candidates": candidates(**values), "curves": curves(**counts), "members": members(**counts)}
    return write(folder, tables, {"schema_version": 1, "sweep": "made"} if info is None else info)
