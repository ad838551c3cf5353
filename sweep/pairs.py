"""Distances and kinship of the members of a pool: one pass over its matrix for all pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.files import now
from sweep.lineage import Pool
from sweep.outputs import PoolWeights
from sweep.provenance import code_version
from sweep.task import origin

_CHUNK = 1 << 18  # columns in double precision at a time


def gram(matrix: NDArray[np.float32], columns: int) -> NDArray[np.float64]:
    """Inner products of all rows over the first `columns`, (rows, rows), in double precision."""
    products = np.zeros((len(matrix), len(matrix)))
    for left in range(0, columns, _CHUNK):
        piece = matrix[:, left : min(left + _CHUNK, columns)].astype(np.float64)
        products += piece @ piece.T
    return products


def open_pairs(pool: Pool, failed: Collection[str], present: Collection[tuple[str, str]]) -> list[tuple[int, int]]:
    """Pairs of members that have weights and no row yet, by their positions."""
    usable = [member for member in pool.members if member.id not in failed]
    return [(a.index, b.index) for a, b in itertools.combinations(usable, 2) if (a.id, b.id) not in present]


def pair_rows(pool: Pool, weights: PoolWeights, pairs: Sequence[tuple[int, int]], sweep: str) -> list[dict[str, Any]]:
    """One row for each pair; `task_cosine` is signed (a known script takes |cos|)."""
    products = gram(weights.matrix, weights.n_parameters)
    about = {"sweep": sweep, **origin(pool), "created_at": now(), "code_version": code_version()}
    return [
        about
        | {"member_a": pool.members[a].id, "member_b": pool.members[b].id, "index_a": a, "index_b": b}
        | _kinship(products, a, b, weights.has_start)
        for a, b in pairs
    ]


def _kinship(products: NDArray[np.float64], a: int, b: int, has_start: bool) -> dict[str, float | None]:
    """Distance and cosines of two rows, from inner products; the last row is the start."""
    squared = products[a, a] + products[b, b] - 2 * products[a, b]
    kinship: dict[str, float | None] = {
        "l2_distance": math.sqrt(max(squared, 0.0)),
        "cosine": _cosine(products[a, b], products[a, a], products[b, b]),
        "task_cosine": None,
    }
    if has_start:
        s = len(products) - 1
        inner = products[a, b] - products[a, s] - products[b, s] + products[s, s]
        own = [products[i, i] - 2 * products[i, s] + products[s, s] for i in (a, b)]
        kinship["task_cosine"] = _cosine(inner, *own)
    return kinship


def _cosine(inner: float, first: float, second: float) -> float | None:
    """None where a vector is zero."""
    norm = math.sqrt(max(first, 0.0) * max(second, 0.0))
    return float(inner / norm) if norm > 0 else None
