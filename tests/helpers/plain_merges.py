"""Merge methods as plain computations in numpy, tensor by tensor, from their papers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
State = dict[str, Array]
PlainMerge = Callable[..., State]


def deltas(members: list[State], base: State, name: str) -> Array:
    return np.stack([member[name] - base[name] for member in members])


def per_tensor(merge: Callable[..., Array]) -> PlainMerge:
    """A merge of the task tensors (members, …) of each name, added to the base."""
    return lambda members, base, **settings: {
        name: base[name] + merge(deltas(members, base, name), **settings) for name in base
    }


def whole(merge: Callable[..., Array]) -> PlainMerge:
    """A merge of whole task vectors (members, parameters), added to the base."""

    def merged(members: list[State], base: State, **settings: Any) -> State:
        vectors = np.concatenate([deltas(members, base, name).reshape(len(members), -1) for name in base], 1)
        flat = merge(vectors, **settings)
        sizes = np.cumsum([array.size for array in base.values()])[:-1]
        parts = zip(base.items(), np.split(flat, sizes), strict=True)
        return {name: array + part.reshape(array.shape) for (name, array), part in parts}

    return merged


def task_arithmetic(vectors: Array, scale: float) -> Array:
    return scale * vectors.sum(0)


def _top(vector: Array, density: float) -> Array:
    sizes = np.abs(vector).ravel()
    k = max(1, math.floor(density * sizes.size))
    return np.where(np.abs(vector) >= sorted(sizes, reverse=True)[k - 1], vector, 0)


def elect(vectors: Array, merge: str = "mean") -> Array:
    sign = np.sign(vectors.sum(0))
    agrees = (np.sign(vectors) == sign) & (vectors != 0)
    total = (vectors * agrees).sum(0)
    return total / np.maximum(agrees.sum(0), 1) if merge == "mean" else total


def ties(vectors: Array, density: float = 0.2, merge: str = "mean", scale: float = 1.0, scope: str = "") -> Array:
    return scale * elect(np.stack([_top(vector, density) for vector in vectors]), merge)


def magmax(vectors: Array, scale: float) -> Array:
    flat = vectors.reshape(len(vectors), -1)
    picked = [max(column, key=abs) for column in flat.T]
    return scale * np.array(picked).reshape(vectors.shape[1:])


def breadcrumbs(vectors: Array, density: float, gamma: float, scale: float, scope: str) -> Array:
    total = np.zeros(vectors.shape[1:])
    for vector in vectors:
        length = vector.shape[-1] if scope == "row" else vector.size
        rows = vector.reshape(-1, length).copy()
        kept = math.floor(density * length)
        dropped = min(math.floor(gamma * length), length - kept)
        for row in rows:
            order = np.argsort(-np.abs(row), kind="stable")
            row[order[:dropped]] = 0
            row[order[dropped + kept :]] = 0
        total += rows.reshape(vector.shape)
    return scale * total


def model_stock(vectors: Array) -> Array:
    count = len(vectors)
    flat = vectors.reshape(count, -1)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    norms = [np.linalg.norm(row) for row in flat]
    cosines = [flat[i] @ flat[j] / (norms[i] * norms[j]) if norms[i] * norms[j] else 0 for i, j in pairs]
    cosine = np.mean(cosines)
    share = np.clip(count * cosine / (1 + (count - 1) * cosine), 0, 1)
    return np.asarray(share * vectors.mean(0))


def consensus_ta(vectors: Array, mask: float, agree: int, scale: float) -> Array:
    total = vectors.sum(0)
    counts = sum((np.abs(vector) > mask * np.abs(total - vector)).astype(int) for vector in vectors)
    return scale * total * (counts >= agree)


def sce(vectors: Array, density: float) -> Array:
    flat = vectors.reshape(len(vectors), -1).copy()
    variances = flat.var(0)
    if density < 1:
        k = math.floor(density * (variances > 0).sum())
        flat *= variances >= (sorted(variances, reverse=True)[k - 1] if k else np.inf)
    energies = (flat**2).mean(1)
    weights = energies / energies.sum() if energies.sum() else energies
    sign = np.where(flat.sum(0) >= 0, 1, -1)
    agrees = (np.sign(flat) == sign) * weights[:, None]
    total = agrees.sum(0)
    return ((agrees * flat).sum(0) / np.where(total > 0, total, 1)).reshape(vectors.shape[1:])


def _matrices(merge: Callable[..., Array], vectors: Array, **settings: Any) -> Array:
    if vectors.ndim == 2:
        return vectors.mean(0)
    return merge(vectors.reshape(len(vectors), vectors.shape[1], -1), **settings).reshape(vectors.shape[1:])


def _svd(matrix: Array) -> tuple[Array, Array, Array]:
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    rank = int((values > max(matrix.shape) * np.finfo(np.float32).eps * values[0]).sum())
    return left[:, :rank], values[:rank], right[:rank]


def _polar(matrix: Array) -> Array:
    """matrix (matrixᵀ matrix)^(-1/2) on the directions that are there, by the eigenvalues of the smaller product."""
    squares, axes = np.linalg.eigh(matrix.T @ matrix)
    there = squares > 1e-6
    return np.asarray(matrix @ (axes[:, there] / np.sqrt(squares[there])) @ axes[:, there].T)


def tsv(vectors: Array, scale: float) -> Array:
    def merged(matrices: Array) -> Array:
        kept = min(matrices.shape[1:]) // len(matrices)
        parts = [_svd(matrix) for matrix in matrices]
        left = np.concatenate([u[:, :kept] for u, _, _ in parts], 1)
        values = np.concatenate([s[:kept] for _, s, _ in parts])
        right = np.concatenate([v[:kept] for _, _, v in parts])
        return np.asarray(_polar(left) @ np.diag(values) @ _polar(right.T).T)

    return scale * _matrices(merged, vectors)


def iso(vectors: Array, scale: float) -> Array:
    def merged(matrices: Array) -> Array:
        left, values, right = _svd(matrices.sum(0))
        return np.asarray(values.sum() / min(matrices.shape[1:]) * left @ right)

    return scale * _matrices(merged, vectors)


def iso_cts(vectors: Array, fraction: float) -> Array:
    def merged(matrices: Array) -> Array:
        rank = min(matrices.shape[1:])
        own = round((rank - int(rank * fraction)) / len(matrices))
        common = rank - own * len(matrices)
        left, values, right = _svd(matrices.sum(0))
        left = left[:, :common]
        lefts = []
        sizes = []
        rights = []
        for matrix in matrices:
            u, s, v = _svd(matrix - left @ left.T @ matrix)
            lefts.append(u[:, :own])
            sizes.append(s[:own])
            rights.append(v[:own])
        mean = np.concatenate([*sizes, values[:common]]).sum() / rank
        rights.append(right[:common])
        return np.asarray(mean * _polar(np.concatenate([*lefts, left], 1)) @ _polar(np.concatenate(rights).T).T)

    return _matrices(merged, vectors)


def slerp(members: list[State], base: State, t: float) -> State:
    merged = {}
    for name in base:
        a, b = (member[name] for member in members)
        cosine = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
        angle = math.acos(cosine)
        if abs(cosine) > 0.9995:
            merged[name] = (1 - t) * a + t * b
        else:
            merged[name] = (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)
    return merged


def karcher(members: list[State], base: State) -> State:
    """The unit vector from which the tangents to the members sum to zero, by short steps from the first member."""
    merged = {}
    for name, array in base.items():
        rows = np.stack([member[name].ravel() for member in members])
        norms = np.linalg.norm(rows, axis=1)
        mean = rows[0] / norms[0]
        for _ in range(200):
            tangents = []
            for unit in rows / norms[:, None]:
                across = unit - (unit @ mean) * mean
                size = np.linalg.norm(across)
                tangents.append(across * (np.arctan2(size, unit @ mean) / size if size else 0))
            mean = mean + 0.3 * np.mean(tangents, 0)
            mean /= np.linalg.norm(mean)
        merged[name] = (mean * norms.mean()).reshape(array.shape)
    return merged
