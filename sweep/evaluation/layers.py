"""Distribution of the entries of each tensor: moments, distance to a Gaussian, histogram, filters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sweep.core.weights import TRAINABLE_ROLES, ParameterLayout, TensorSpec
from sweep.evaluation.engine import PoolEngine
from sweep.evaluation.pairs import gram

Row = dict[str, Any]
Entries = NDArray[np.float32]
Correlations = Mapping[str, NDArray[np.float64]]
"""Tensor -> correlations of the members' entries, (members, members); NaN for a member whose entries do not vary."""

BINS = 80
"""Bins of a histogram."""
REACH = 4.0
"""Standard deviations that a histogram reaches to each side."""
_FILTERS = 32
_CHUNK = 1 << 22  # entries in double precision at a time


def tensors_of(layout: ParameterLayout) -> list[TensorSpec]:
    """The trainable tensors in order, from the input on."""
    return [entry for entry in layout.entries if entry.role in TRAINABLE_ROLES]


def correlations(matrix: Entries, layout: ParameterLayout) -> Correlations:
    """Correlations of the members' entries per tensor, from the matrix (rows, entries) of the pool."""
    found = {}
    for entry in tensors_of(layout):
        slab = matrix[:, entry.offset : entry.stop]
        mean = slab.mean(1, dtype=np.float64)
        covariance = gram(slab, entry.size) / entry.size - np.outer(mean, mean)
        spread = np.sqrt(np.diag(covariance).clip(0))
        with np.errstate(divide="ignore", invalid="ignore"):
            found[entry.name] = covariance / np.outer(spread, spread)
    return found


def layer_rows(engine: PoolEngine, correlated: Correlations, about: Row, *, with_images: bool) -> list[Row]:
    """One row per trainable tensor of the loaded model; `with_images`, also histograms and the first filters."""
    subset = about["member_indices"]
    rows = []
    first = first_filters(engine)
    for depth, entry in enumerate(tensors_of(engine.layout)):
        entries = engine.flat_weights[entry.offset : entry.stop].cpu().numpy()
        row = about | {"tensor": entry.name, "role": _role(entry), "depth": depth, "n_elements": entry.size}
        row |= {"shape": "x".join(map(str, entry.shape)), **moment_columns(entries)}
        row["member_correlation"] = _mean_correlation(correlated[entry.name], subset)
        if with_images and row["std"]:
            row["histogram"] = histogram(entries, row["mean"], row["std"]).tobytes()
        if with_images and first and first[0] == entry:
            row |= {"filters": _first(entries, entry), "filter_shape": "x".join(map(str, first[1]))}
        rows.append(row)
    return rows


def first_filters(engine: PoolEngine) -> tuple[TensorSpec, tuple[int, ...]] | None:
    """The first layer's weight and (channels, height, width) of its filters; None if they are no images.

    Filters are those of a convolution, or the rows of a hidden layer that reads all pixels. A linear classifier has
    templates instead.
    """
    dataset = engine.dataset
    pixels = (dataset.channels, dataset.size, dataset.size)
    for entry in (entry for entry in tensors_of(engine.layout) if entry.role == "weight"):
        if len(entry.shape) == 4:
            return entry, entry.shape[1:]
        if len(entry.shape) == 2:
            return (entry, pixels) if entry.shape[1] == math.prod(pixels) else None
    return None


def _first(entries: Entries, entry: TensorSpec) -> bytes:
    """The first filters, in the order of memory."""
    return entries[: _FILTERS * (entry.size // entry.shape[0])].astype("<f4").tobytes()


def _role(entry: TensorSpec) -> str:
    """weight, bias, norm weight or norm bias; the head's are weight and bias."""
    kind = "bias" if entry.name.rpartition(".")[2] == "bias" else "weight"
    return f"norm {kind}" if entry.role == "norm" else kind if entry.role == "head" else entry.role


def _mean_correlation(matrix: NDArray[np.float64], subset: Sequence[int]) -> float | None:
    """Mean over the pairs of a subset; None for one member."""
    own = matrix[np.ix_(subset, subset)][np.triu_indices(len(subset), 1)]
    return _number(float(own.mean())) if len(own) else None


def moment_columns(entries: Entries) -> Row:
    """Mean, standard deviation, skewness, excess kurtosis, QQ correlation and norm; None for an undefined one."""
    count = entries.size
    mean = float(entries.mean(dtype=np.float64))
    powers = np.zeros(3)
    for piece in _pieces(entries):
        deviations = piece - mean
        square = deviations * deviations
        powers += [square.sum(), (square * deviations).sum(), (square * square).sum()]
    second, third, fourth = (powers / count).tolist()
    std = math.sqrt(second) if second >= 0 else math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = {"skewness": np.float64(third) / std**3, "kurtosis": np.float64(fourth) / second**2 - 3}
    shape |= {"mean": mean, "std": std, "norm": math.sqrt(count * (second + mean * mean)) if second >= 0 else math.nan}
    shape["qq_correlation"] = qq_correlation(entries, mean, std) if std > 0 else math.nan
    return {name: _number(float(value)) for name, value in shape.items()}


def qq_correlation(entries: Entries, mean: float, std: float) -> float:
    """Correlation of the sorted entries with the quantiles of a Gaussian at Filliben's places (Technometrics, 1975)."""
    count = entries.size
    products = 0.0
    squares = 0.0
    ordered = np.sort(entries)
    for start in range(0, count, _CHUNK):
        place = torch.arange(start + 1, min(start + _CHUNK, count) + 1, dtype=torch.float64)
        share = (place - 0.3175) / (count + 0.365)
        share[place == count] = 0.5 ** (1 / count)
        share[place == 1] = 1 - 0.5 ** (1 / count)
        quantile = torch.special.ndtri(share).numpy()
        products += float(quantile @ (ordered[start : start + _CHUNK] - mean))
        squares += float(quantile @ quantile)
    return products / (math.sqrt(squares * count) * std) if squares else math.nan


def histogram(entries: Entries, mean: float, std: float) -> NDArray[np.float32]:
    """Shares of entries in `BINS` bins over `REACH` standard deviations to each side; outliers are in the end bins."""
    counts = np.zeros(BINS)
    for piece in _pieces(entries):
        place = np.floor((piece - mean) / std * (BINS / (2 * REACH)) + BINS / 2)
        counts += np.bincount(place.clip(0, BINS - 1).astype(np.int64), minlength=BINS)
    return (counts / entries.size).astype("<f4")


def _pieces(entries: Entries) -> Iterator[NDArray[np.float64]]:
    for start in range(0, entries.size, _CHUNK):
        yield entries[start : start + _CHUNK].astype(np.float64)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
