"""Distances and similarities of pairs of members, from one pass over the matrix and one forward pass per member."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweep.core.dataset import subset
from sweep.evaluation.cache import BoundedCache
from sweep.evaluation.engine import PoolEngine
from sweep.model.forward import forward_split
from sweep.model.split import DeviceSplit, to_device
from sweep.plan.pools import Pool
from sweep.plan.work import TILE, MemberPair

_CHUNK = 1 << 18  # columns in double precision at a time
_EXAMPLES = 1000
_FEATURE_BYTES = 1 << 28  # of members' features, beside those of the current block
_FEWEST = 4  # examples that the unbiased estimate needs


def gram(matrix: NDArray[np.float32], columns: int, rows: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Inner products of some rows (of all, if None) over the first `columns`, (rows, rows), in double precision."""
    rows = range(len(matrix)) if rows is None else rows
    products = np.zeros((len(rows), len(rows)))
    for left in range(0, columns, _CHUNK):
        piece = matrix[rows, left : min(left + _CHUNK, columns)].astype(np.float64)
        products += piece @ piece.T
    return products


class TaskVectors(NamedTuple):
    """Of the task vectors (row minus start) of some rows: sums, and inner products of signs and of what moved."""

    sums: NDArray[np.float64]  # (rows,)
    signs: NDArray[np.float64]  # (rows, rows): entries with equal signs minus those with opposite ones
    moved: NDArray[np.float64]  # (rows, rows): entries that are not zero in both
    size: int


def task_vectors(matrix: NDArray[np.float32], columns: int, rows: Sequence[int], start: int) -> TaskVectors:
    """The sums and signs of the task vectors of some rows over the first `columns`; `start` is the row of the start."""
    sums = np.zeros(len(rows))
    signs = np.zeros((len(rows), len(rows)))
    moved = np.zeros_like(signs)
    for left in range(0, columns, _CHUNK):
        part = slice(left, min(left + _CHUNK, columns))
        vectors = matrix[rows, part] - matrix[start, part]
        sums += vectors.sum(1, dtype=np.float64)
        signed = np.sign(vectors)  # in single precision, counts up to 2^24 are exact
        signs += signed @ signed.T
        nonzero = np.abs(signed)
        moved += nonzero @ nonzero.T
    return TaskVectors(sums, signs, moved, columns)


class MemberFeatures(NamedTuple):
    """Flattened features of a member and their dependence on themselves."""

    values: Tensor
    own: float


@dataclass(frozen=True)
class PairComparer:
    """Compares pairs of a pool's members; their features are kept for the next blocks."""

    engine: PoolEngine
    pool: Pool
    _kept: BoundedCache[int, MemberFeatures] = field(
        default_factory=lambda: BoundedCache(_FEATURE_BYTES, lambda one: one.values.nbytes)
    )

    def rows(self, pairs: Sequence[MemberPair], about: Mapping[str, Any]) -> list[dict[str, Any]]:
        """One row per pair, with the columns `about` all of them.

        `task_cosine` is signed (a known script takes |cos|). Sums are over all members of the pairs' tiles, so that the
        bits of a pair do not depend on which other pairs are compared.
        """
        weights = self.engine.pool
        members = self.pool.members
        rows = _rows_of_tiles(pairs, len(members))
        place = {row: number for number, row in enumerate(rows)}
        starts = [len(members)] if weights.has_start else []
        products = gram(weights.matrix, weights.n_parameters, [*rows, *starts])
        vectors = task_vectors(weights.matrix, weights.n_parameters, rows, starts[0]) if starts else None
        similar = self._similarities(pairs)
        return [
            {**about, "member_a": members[a].id, "member_b": members[b].id, "index_a": a, "index_b": b}
            | _distances(products, place[a], place[b])
            | _task_similarities(products, vectors, place[a], place[b])
            | {"cka": similarity}
            for (_, a, b), similarity in zip(pairs, similar, strict=True)
        ]

    def _similarities(self, pairs: Sequence[MemberPair]) -> list[float | None]:
        """Debiased CKA of each pair's features; None if a network has no features or they cannot be compared."""
        members = sorted({index for _, a, b in pairs for index in (a, b)})
        try:
            features = {index: self._kept.get_or_make(index, partial(self._features, index)) for index in members}
        except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception:  # a user's architecture may raise anything; the rows of its candidates hold the error
            return [None] * len(pairs)
        sides = ((features[a], features[b]) for _, a, b in pairs)
        return [_cosine(hsic(first.values, second.values), first.own, second.own) for first, second in sides]

    @torch.inference_mode()
    def _features(self, member: int) -> MemberFeatures:
        """The features of a member. Raises ValueError if nothing reaches its head."""
        self.engine.load_member(member)
        features = forward_split(self.engine.model, self._images, self.engine.batching, self.engine.head).features
        if features is None:
            raise ValueError("nothing reaches the head")
        flat = flatten_features(features)
        return MemberFeatures(flat, hsic(flat, flat))

    @cached_property
    def _images(self) -> DeviceSplit:
        """Up to 1,000 validation images, spread over the split."""
        whole = self.engine.dataset.splits["validation"]
        count = min(len(whole), _EXAMPLES)
        part = subset(whole.labels, whole.images, np.arange(count) * len(whole) // count)
        dataset = replace(self.engine.dataset, splits={**self.engine.dataset.splits, "validation": part})
        return to_device(dataset, "validation", self.engine.device)


def _rows_of_tiles(pairs: Sequence[MemberPair], n_members: int) -> list[int]:
    """The positions of all members in the tiles of the pairs' members."""
    tiles = {index // TILE for _, a, b in pairs for index in (a, b)}
    return [row for tile in sorted(tiles) for row in range(tile * TILE, min((tile + 1) * TILE, n_members))]


def _distances(products: NDArray[np.float64], a: int, b: int) -> dict[str, float | None]:
    """Distance and cosine of two rows, from inner products."""
    squared = products[a, a] + products[b, b] - 2 * products[a, b]
    cosine = _cosine(products[a, b], products[a, a], products[b, b])
    return {"l2_distance": math.sqrt(max(squared, 0.0)), "cosine": cosine}


def _task_similarities(
    products: NDArray[np.float64], vectors: TaskVectors | None, a: int, b: int
) -> dict[str, float | None]:
    """How alike two task vectors are, from inner products whose last row is the start; None without a start."""
    if vectors is None:
        return dict.fromkeys(("task_cosine", "task_pearson", "sign_agreement", "both_moved"))
    s = len(products) - 1
    inner = {(i, j): products[i, j] - products[i, s] - products[j, s] + products[s, s] for i in (a, b) for j in (a, b)}
    centred = {(i, j): value - vectors.sums[i] * vectors.sums[j] / vectors.size for (i, j), value in inner.items()}
    moved = float(vectors.moved[a, b])
    agreement = (1 + float(vectors.signs[a, b]) / moved) / 2 if moved > 0 else math.nan
    return {
        "task_cosine": _cosine(inner[a, b], inner[a, a], inner[b, b]),
        "task_pearson": _cosine(centred[a, b], centred[a, a], centred[b, b]),
        "sign_agreement": _finite(agreement),
        "both_moved": _finite(moved / vectors.size),
    }


def _finite(value: float) -> float | None:
    """The value, None if it is not finite."""
    return value if math.isfinite(value) else None


def _cosine(inner: float, first: float, second: float) -> float | None:
    """The cosine of two vectors; None if one of them is zero or not finite."""
    norm = math.sqrt(max(first, 0.0) * max(second, 0.0))
    return float(inner / norm) if norm > 0 and math.isfinite(inner / norm) else None


def flatten_features(features: Tensor) -> Tensor:
    """Features (examples, any shape) as input of `hsic`: (examples, p), double, centred, p at most the examples.

    HSIC depends on inner products of examples alone, and a rotation to fewer columns keeps them.
    """
    flat = features.flatten(1).double()
    flat = flat - flat.mean(0)
    return flat if flat.shape[1] <= len(flat) else torch.linalg.qr(flat.T, mode="r").R.T


def hsic(x: Tensor, y: Tensor) -> float:
    """Dependence between two sets of centred features of the same examples, with linear kernels; around 0 if none.

    The unbiased estimate of the Hilbert-Schmidt independence criterion, in O(examples × columns²); NaN for fewer than 4
    examples. Source: Song et al., JMLR 13 (2012), as debiased CKA in arXiv 2010.15327.
    """
    n = len(x)
    if n < _FEWEST:
        return math.nan
    own_x = x.square().sum(1)
    own_y = y.square().sum(1)
    shared = (x.T @ y).square().sum() - n / (n - 2) * (own_x @ own_y)
    return float(shared + own_x.sum() * own_y.sum() / ((n - 1) * (n - 2))) / (n * (n - 3))
