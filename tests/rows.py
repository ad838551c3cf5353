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
from sweep.columns import COLUMNS

METHODS = [
    ("weights", "uniform_soup", {}, 0.02),
    ("logits", "logit_average", {}, 0.03),
    ("features", "feature_average", {"head": "first"}, 0.025),
    ("features", "feature_average", {"head": "average"}, 0.027),
]
STEP = {"": "none", "_settings": "{}"}
RECIPE = {"sweep": "made", "architecture": "mlp", "dataset": "digits", "start": "shared"}


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


def planes(*, pools: int = 3, members: int = 4, population: str = "people") -> list[dict[str, Any]]:
    """Nine points of the plane through every three members, worse towards its corners."""
    rows = []
    for pool, triple in itertools.product(range(pools), itertools.combinations(range(members), 3)):
        for a, b in itertools.product((0.0, 0.5, 1.0), repeat=2):
            told = {"settings": json.dumps({"a": a, "b": b}), "population": population}
            told |= {"cross_entropy": 0.3 + a * a + b * b + 0.01 * pool, "accuracy": 0.95 - 0.1 * (a + b)}
            rows.append(candidate(pool, triple, "plane", **told))
    return rows


def normed(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Beside every soup itself at the norm of its members, and the first of them at the norm of the soup."""
    rows = []
    for soup in candidates:
        if soup["method"] == "uniform_soup" and soup["scaling"] == "none":
            for method, norm, lost in (("uniform_soup", "members", 0.002), ("first_member", "soup", 0.02)):
                told = {"method": method, "scaling": "norm_matched", "scaling_settings": json.dumps({"to": norm})}
                told |= {"candidate_id": None, "accuracy": soup["accuracy"] - lost - 0.0001 * soup["pool"]}
                rows.append(candidate(**{**soup, **told, "members": tuple(soup["member_indices"])}))
    return rows


def curves(*, pools: int = 3, members: int = 4, epochs: int = 5, population: str = "people") -> list[dict[str, Any]]:
    """Epochs of every member."""
    rows = []
    for pool, member, epoch in itertools.product(range(pools), range(members), range(1, epochs + 1)):
        row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS["curves"])
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
        row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS["members"])
        row |= RECIPE | {"population": population, "pool": pool, "pool_id": f"{population}-{pool}", "role": "member"}
        row |= {"member_id": f"{population}-{pool}-{member}", "member_index": member, "status": "ok"}
        row |= {
            "n_parameters": 12_345,
            "forward_flops": 1_000_000,
            "validation_accuracy": 0.9,
            "train_seconds": 2.5,
            "device": "cpu",
        }
        rows.append(row)
    return rows


def pairs(*, pools: int = 3, members: int = 4, population: str = "people", seed: int = 1) -> list[dict[str, Any]]:
    """Every pair of members of every pool."""
    random, rows = np.random.default_rng(seed), []
    for pool, (a, b) in itertools.product(range(pools), itertools.combinations(range(members), 2)):
        row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS["pairs"])
        row |= RECIPE | {"population": population, "pool": pool, "pool_id": f"{population}-{pool}"}
        row |= {"member_a": f"{population}-{pool}-{a}", "member_b": f"{population}-{pool}-{b}"}
        row |= {"index_a": a, "index_b": b, "l2_distance": 5 + random.random(), "cosine": random.uniform(0.5, 0.9)}
        row |= {"task_cosine": random.uniform(0, 0.5), "cka": random.uniform(0.5, 1)}
        rows.append(row)
    return rows


def predictions(
    candidates: list[dict[str, Any]], *, examples: int = 40, classes: int = 3, seed: int = 2
) -> list[dict[str, Any]]:
    """What each candidate that is `ok` says of some examples, with its probabilities."""
    random, found = np.random.default_rng(seed), []
    labels = random.integers(0, classes, examples).astype(np.uint8)
    for one in candidates:
        if one["status"] != "ok":
            continue
        logits = random.standard_normal((examples, classes)) + 2 * np.eye(classes)[labels]
        log_p = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype("<f2")
        said = log_p.argmax(1).astype(np.uint8)
        row = {key: one[key] for key in ("candidate_id", "block_id", "split")} | {"n_examples": examples}
        row |= {"correct": np.packbits(said == labels).tobytes(), "classes": said.tobytes()}
        found.append(row | {"labels": labels.tobytes(), "log_probabilities": log_p.tobytes()})
    return found


def both_splits(candidates: list[dict[str, Any]], *, examples: int = 40) -> list[dict[str, Any]]:
    """Predictions on the test and on the validation split."""
    validation = [row | {"split": "validation"} for row in candidates]
    return predictions(candidates, examples=examples) + predictions(validation, examples=examples, seed=5)


def _model(pool: int, members: tuple[int, ...], population: str) -> dict[str, Any]:
    """The columns that say which model a row of `layers` or `templates` is about."""
    one, names = len(members) == 1, [f"{population}-{pool}-{index}" for index in members]
    about = {"model_id": "+".join(names), "kind": "member" if one else "merge", "settings": "{}"}
    about |= RECIPE | {"population": population, "pool": pool, "pool_id": f"{population}-{pool}", "members": names}
    about |= {f"{step}{end}": text for step in ("alignment", "repair") for end, text in STEP.items()}
    return about | {
        "method": "single" if one else "uniform_soup",
        "member_indices": list(members),
        "n_members": len(members),
    }


def _subsets(members: int) -> list[tuple[int, ...]]:
    return [subset for size in range(1, members + 1) for subset in itertools.combinations(range(members), size)]


def layers(*, pools: int = 3, members: int = 4, population: str = "people", seed: int = 3) -> list[dict[str, Any]]:
    """Three tensors of every member and of every uniform soup."""
    random, rows = np.random.default_rng(seed), []
    tensors = [("conv1.weight", "weight"), ("conv1.bias", "bias"), ("fc.weight", "weight")]
    for pool, subset in itertools.product(range(pools), _subsets(members)):
        for depth, (tensor, role) in enumerate(tensors):
            row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS["layers"])
            std = (0.1 + 0.01 * pool) / np.sqrt(len(subset)) * (1 + 0.1 * random.random())
            row |= _model(pool, subset, population) | {"tensor": tensor, "role": role, "depth": depth}
            row |= {"n_elements": 100, "mean": 0.01 * random.standard_normal(), "std": std, "norm": 10 * std}
            row |= {"skewness": random.normal(0, 0.1), "kurtosis": random.normal(0.3, 0.1), "qq_correlation": 0.99}
            row |= {"shape": "4x1x5x5", "member_correlation": 0.4 if len(subset) > 1 else None}
            if pool == 0 and subset == tuple(range(len(subset))):
                row["histogram"] = (np.hanning(80) / np.hanning(80).sum()).astype("<f4").tobytes()
                if not depth:
                    row |= {"filters": random.standard_normal(100).astype("<f4").tobytes(), "filter_shape": "1x5x5"}
            rows.append(row)
    return rows


def templates(
    *, pools: int = 3, members: int = 4, classes: int = 5, population: str = "people", seed: int = 4
) -> list[dict[str, Any]]:
    """Templates against class means for every member and the soup of all."""
    random, rows = np.random.default_rng(seed), []
    subsets = [(index,) for index in range(members)] + [tuple(range(members))]
    for pool, subset in itertools.product(range(pools), subsets):
        for a, b in itertools.product(range(classes), repeat=2):
            row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS["templates"])
            row |= _model(pool, subset, population) | {"template_class": a, "mean_class": b}
            row |= {"weight_decay": 0.001, "mixup": 0.0, "labels": "true"}
            row |= {"correlation": (a == b) * 0.8 + 0.1 * random.standard_normal(), "raw_correlation": 0.5}
            row["input"] = "pixels"
            if a == b:
                row |= {"agreement": 0.9 + 0.05 * random.random(), "stationarity_gap": 0.1 * random.random()}
            if a == b and pool == 0 and subset == tuple(range(len(subset))):
                pictures = random.standard_normal((2, 16)).astype("<f4")
                row |= {"template": pictures[0].tobytes(), "mean_image": pictures[1].tobytes(), "channels": 1}
            rows.append(row)
    return rows


def tables(**values: Any) -> dict[str, pd.DataFrame]:
    """Every table of one small population, by name, as `analysis.load` would give them."""
    counts = {key: value for key, value in values.items() if key in ("pools", "members", "population")}
    made = {"candidates": candidates(**values), "curves": curves(**counts), "members": members(**counts)}
    made |= {"pairs": pairs(**counts), "layers": layers(**counts), "templates": templates(**counts)}
    averaged = [row for row in made["candidates"] if row["method"] == "logit_average"]
    told = {"method": "probability_average", "candidate_id": None, "brier": 0.09}
    made["candidates"] += [candidate(**{**row, **told, "members": tuple(row["member_indices"])}) for row in averaged]
    made["candidates"] += normed(made["candidates"])
    made["predictions"] = both_splits(made["candidates"], examples=200)
    return {name: frame(rows, name) for name, rows in made.items()}


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
