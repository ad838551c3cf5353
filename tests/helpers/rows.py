"""Synthetic rows with the columns of the tables, as frames and as a run folder; the same for the same arguments.

Those about models are made in `model_rows`.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.rows.chance import CLASS_SHARES
from sweep.storage import tables as table
from sweep.storage.columns import COLUMNS
from tests.helpers.model_rows import RECIPE, curves, layers, members, pairs, templates

METHODS = [
    ("weights", "uniform_soup", {}, 0.02),
    ("logits", "logit_average", {}, 0.03),
    ("features", "feature_average", {"head": "first"}, 0.025),
    ("features", "feature_average", {"head": "average"}, 0.027),
]


def candidate(pool: int, members: tuple[int, ...], method: str, **values: Any) -> dict[str, Any]:
    """One row of `candidates` with every column, in the population `people` unless told otherwise."""
    population = values.get("population", "people")
    row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS["candidates"])
    row |= RECIPE | {"population": population, "pool": pool, "pool_id": f"{population}-{pool}", "method": method}
    row |= {"space": "weights", "settings": "{}", "n_members": len(members), "member_indices": list(members)}
    row |= {"members": [f"{population}-{pool}-{index}" for index in members], "split": "test", "status": "ok"}
    row |= dict.fromkeys(("alignment", "scaling", "repair"), "none")
    row |= {f"{name}_settings": "{}" for name in ("alignment", "scaling", "repair")}
    row |= {"scaling_factor": 1.0, "scaling_members": "all", "accuracy": 0.9, "cross_entropy": 0.3, "brier": 0.1}
    row |= {
        "ece": 0.02,
        "ece_mass": 0.03,
        "finite": True,
        "protocol": "correct",
        "n_examples": 360,
        "device": "cpu",
    } | values
    message = [row[k] for k in ("pool_id", "members", "method", "settings", "alignment", "scaling_settings", "repair")]
    row["candidate_id"] = row["candidate_id"] or json.dumps(message)
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
                    message = {"space": space, "settings": json.dumps(settings), "accuracy": accuracy, **own}
                    rows.append(candidate(pool, subset, method, **message))
                rows += _magnified(pool, subset, level, own)
        for pair in itertools.combinations(range(members), 2):
            rows += _path(pool, pair, level, own)
    return rows + searched(rows)


def _magnified(pool: int, subset: tuple[int, ...], level: float, own: dict[str, Any]) -> list[dict[str, Any]]:
    """A soup whose members are multiplied; the largest factor overflows."""
    rows = []
    for which, factor in itertools.product(("all", "first"), (0.1, 0.5, 2.0, 10.0, 1000.0)):
        settings = json.dumps({"factor": factor, "members": which})
        missing = {
            "status": "non_finite",
            "error": "overflow",
            "accuracy": None,
            "cross_entropy": None,
            "finite": False,
        }
        message = {
            "scaling": "magnify",
            "scaling_settings": settings,
            "scaling_factor": factor,
            "scaling_members": which,
        }
        message |= {"accuracy": level - 0.1 * np.log10(factor) ** 2, **(missing if factor > 100 else {})}
        rows.append(candidate(pool, subset, "uniform_soup", **message, **own))
    return rows


def _path(pool: int, pair: tuple[int, ...], level: float, own: dict[str, Any]) -> list[dict[str, Any]]:
    """Eleven points between two members, with a hump in the middle."""
    rows = []
    for weight in np.linspace(0, 1, 11).round(3).tolist():
        hump = 4 * weight * (1 - weight)
        message = {"settings": json.dumps({"weight": weight}), "accuracy": level - 0.2 * hump}
        message |= {"cross_entropy": 0.3 + (0.5 + 0.1 * pool) * hump, **own}
        rows.append(candidate(pool, pair, "interpolation", **message))
    return rows


def planes(*, pools: int = 3, members: int = 4, population: str = "people") -> list[dict[str, Any]]:
    """Nine points of the plane through every three members, worse towards its corners."""
    rows = []
    for pool, triple in itertools.product(range(pools), itertools.combinations(range(members), 3)):
        for a, b in itertools.product((0.0, 0.5, 1.0), repeat=2):
            message = {"settings": json.dumps({"a": a, "b": b}), "population": population}
            message |= {"cross_entropy": 0.3 + a * a + b * b + 0.01 * pool, "accuracy": 0.95 - 0.1 * (a + b)}
            rows.append(candidate(pool, triple, "plane", **message))
    return rows


def searched(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Beside every soup a search that chose one member of the first pools, and all but one of the others."""
    rows = []
    for soup in candidates:
        if soup["method"] == "uniform_soup" and soup["scaling"] == "none":
            chosen = soup["members"][: 1 if soup["pool"] == 0 else -1]
            message = {"method": "greedy_soup", "candidate_id": None, "chosen": chosen}
            message |= {"coefficients": [1 / len(chosen)] * len(chosen)}
            rows.append(candidate(**{**soup, **message, "members": tuple(soup["member_indices"])}))
    return rows


def normed(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Beside every soup itself at the norm of its members, and the first of them at the norm of the soup."""
    rows = []
    for soup in candidates:
        if soup["method"] == "uniform_soup" and soup["scaling"] == "none":
            for method, norm, missing in (("uniform_soup", "members", 0.002), ("first_member", "soup", 0.02)):
                message = {"method": method, "scaling": "norm_matched", "scaling_settings": json.dumps({"to": norm})}
                message |= {"candidate_id": None, "accuracy": soup["accuracy"] - missing - 0.0001 * soup["pool"]}
                rows.append(candidate(**{**soup, **message, "members": tuple(soup["member_indices"])}))
    return rows


def predictions(
    candidates: list[dict[str, Any]], *, examples: int = 40, classes: int = 3, seed: int = 2, sharpness: float = 2.0
) -> list[dict[str, Any]]:
    """What each candidate that is `ok` says of some examples, with its probabilities."""
    random = np.random.default_rng(seed)
    found = []
    labels = random.integers(0, classes, examples).astype(np.uint8)
    for one in candidates:
        if one["status"] != "ok":
            continue
        logits = random.standard_normal((examples, classes)) + sharpness * np.eye(classes)[labels]
        log_p = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype("<f2")
        output = log_p.argmax(1).astype(np.uint8)
        row = {key: one[key] for key in ("candidate_id", "block_id", "split")} | {"n_examples": examples}
        row |= {"correct": np.packbits(output == labels).tobytes(), "classes": output.tobytes()}
        found.append(row | {"labels": labels.tobytes(), "log_probabilities": log_p.tobytes()})
    return found


def both_splits(
    candidates: list[dict[str, Any]], *, examples: int = 40, sharpness: float = 2.0
) -> list[dict[str, Any]]:
    """Predictions on the test and on the validation split."""
    validation = [row | {"split": "validation"} for row in candidates]
    parts = ((candidates, 2), (validation, 5))
    made = [predictions(own, examples=examples, seed=seed, sharpness=sharpness) for own, seed in parts]
    return made[0] + made[1]


def tables(**values: Any) -> dict[str, pd.DataFrame]:
    """Every table of one small population, by name, as `analysis.rows.run` would give them."""
    counts = {key: value for key, value in values.items() if key in ("pools", "members", "population")}
    made = {"candidates": candidates(**values), "curves": curves(**counts), "members": members(**counts)}
    made |= {"pairs": pairs(**counts), "layers": layers(**counts), "templates": templates(**counts)}
    averaged = [row for row in made["candidates"] if row["method"] == "logit_average"]
    message = {"method": "probability_average", "candidate_id": None, "brier": 0.09}
    made["candidates"] += [candidate(**{**row, **message, "members": tuple(row["member_indices"])}) for row in averaged]
    made["candidates"] += normed(made["candidates"])
    made["predictions"] = both_splits(made["candidates"], examples=200)
    return {name: frame(rows, name) for name, rows in made.items()}


def at_level(tables: dict[str, pd.DataFrame], level: float, sharpness: float) -> dict[str, pd.DataFrame]:
    """The tables with accuracies near a level, a twentieth as far apart, and predictions of this sharpness."""
    candidates = tables["candidates"]
    candidates = candidates.assign(accuracy=level + 0.05 * (candidates["accuracy"] - 0.9))
    made = both_splits(candidates.assign(block_id=None).to_dict("records"), examples=200, sharpness=sharpness)
    return {**tables, "candidates": candidates, "predictions": frame(made, "predictions")}


def frame(rows: list[dict[str, Any]], name: str = "candidates") -> pd.DataFrame:
    """Rows as `analysis.rows.run` would give them, of ten classes of equal size."""
    found = pa.Table.from_pylist(rows, table.schema(name)).to_pandas()
    return found.assign(chance=0.1, chance_source=CLASS_SHARES) if name == "candidates" else found


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


def every_candidate(**values: Any) -> list[dict[str, Any]]:
    """The candidates of a whole small run: `candidates`, points of planes, and what is scaled to another norm."""
    counts = {key: value for key, value in values.items() if key in ("pools", "members", "population")}
    made = [*candidates(**values), *planes(**counts)]
    return made + normed(made)


def run_folder(folder: Path, info: dict[str, Any] | None = None, **values: Any) -> Path:
    """A whole small run of one population."""
    counts = {key: value for key, value in values.items() if key in ("pools", "members", "population")}
    tables = {"candidates": every_candidate(**values), "curves": curves(**counts), "members": members(**counts)}
    tables |= {"pairs": pairs(**counts), "layers": layers(**counts), "templates": templates(**counts)}
    tables["predictions"] = both_splits(tables["candidates"])
    return write(folder, tables, {"schema_version": 1, "sweep": "made"} if info is None else info)
