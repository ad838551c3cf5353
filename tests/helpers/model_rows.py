"""Synthetic rows about models: members, their epochs, pairs, tensors and templates; the same for the same arguments."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from sweep.storage.columns import COLUMNS

STEP = {"": "none", "_settings": "{}"}
RECIPE = {"sweep": "made", "architecture": "mlp", "dataset": "digits", "start": "shared"}


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
    random = np.random.default_rng(seed)
    rows = []
    for pool, (a, b) in itertools.product(range(pools), itertools.combinations(range(members), 2)):
        row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS["pairs"])
        row |= RECIPE | {"population": population, "pool": pool, "pool_id": f"{population}-{pool}"}
        row |= {"member_a": f"{population}-{pool}-{a}", "member_b": f"{population}-{pool}-{b}"}
        row |= {"index_a": a, "index_b": b, "l2_distance": 5 + random.random(), "cosine": random.uniform(0.5, 0.9)}
        row |= {"task_cosine": random.uniform(0, 0.5), "cka": random.uniform(0.5, 1)}
        row |= {"task_pearson": random.uniform(0, 0.5), "sign_agreement": random.uniform(0.5, 1), "both_moved": 1.0}
        rows.append(row)
    return rows


def about(pool: int, members: tuple[int, ...], population: str) -> dict[str, Any]:
    """The columns that say which model a row of `layers` or `templates` is about."""
    one = len(members) == 1
    names = [f"{population}-{pool}-{index}" for index in members]
    row = {"model_id": "+".join(names), "kind": "member" if one else "merge", "settings": "{}"}
    row |= RECIPE | {"population": population, "pool": pool, "pool_id": f"{population}-{pool}", "members": names}
    row |= {f"{step}{end}": text for step in ("alignment", "repair") for end, text in STEP.items()}
    return row | {
        "method": "single" if one else "uniform_soup",
        "member_indices": list(members),
        "n_members": len(members),
    }


def _subsets(members: int) -> list[tuple[int, ...]]:
    return [subset for size in range(1, members + 1) for subset in itertools.combinations(range(members), size)]


def layers(*, pools: int = 3, members: int = 4, population: str = "people", seed: int = 3) -> list[dict[str, Any]]:
    """Three tensors of every member and of every uniform soup."""
    random = np.random.default_rng(seed)
    rows = []
    tensors = [("conv1.weight", "weight"), ("conv1.bias", "bias"), ("fc.weight", "weight")]
    for pool, subset in itertools.product(range(pools), _subsets(members)):
        for depth, (tensor, role) in enumerate(tensors):
            row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS["layers"])
            std = (0.1 + 0.01 * pool) / np.sqrt(len(subset)) * (1 + 0.1 * random.random())
            row |= about(pool, subset, population) | {"tensor": tensor, "role": role, "depth": depth}
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
    random = np.random.default_rng(seed)
    rows = []
    subsets = [(index,) for index in range(members)] + [tuple(range(members))]
    for pool, subset in itertools.product(range(pools), subsets):
        for a, b in itertools.product(range(classes), repeat=2):
            row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS["templates"])
            row |= about(pool, subset, population) | {"template_class": a, "mean_class": b}
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
