"""Gaussian classes of any size and number, for tests of scale."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray
from PIL import Image

from sweep.core.dataset import SPLITS, Channels, DataError, Dataset, Images, Labels, Pixels, Seed, Split, digest
from sweep.plugins.datasets._pictures import PIECE

CITES = ()

_GREY = 128.0
_NOISE = 32.0
_COARSE = 4  # level of the mean and deviation of the noise, pixels of a mean's pattern


def synthetic(
    *,
    classes: Annotated[int, Ge(2), Le(100_000)] = 10,
    examples: Annotated[int, Ge(10), Le(100_000_000)] = 1000,
    size: Pixels = 16,
    channels: Channels = 3,
    separation: Annotated[float, Ge(0), Le(1000)] = 4.0,
    seed: Seed = 0,
) -> Dataset:
    """Smooth random class means plus Gaussian noise: `examples` training images, a fifth as many to validate and test.

    `separation` is about the distance of two means in standard deviations of the noise: the best classifier of two
    classes has the error rate Φ(-separation / 2). Raises DataError if a split has fewer images than classes.
    """
    counts = dict(zip(SPLITS, (examples, examples // 5, examples // 5), strict=True))
    if min(counts.values()) < classes:
        raise DataError(f"{min(counts.values())} images in a split for {classes} classes", "raise `examples`")
    splits = {}
    for number, (name, count) in enumerate(counts.items()):
        labels = np.arange(count, dtype=np.int64) % classes
        decode = partial(_pieces, labels, (channels, size, size), separation, seed, number)
        splits[name] = Split(
            labels, decode, digest("synthetic", count, classes, channels, size, separation, seed, name)
        )
    mean = (_GREY / 255,) * channels
    std = (_NOISE / 255,) * channels
    return Dataset(tuple(map(str, range(classes))), splits, mean, std, size, augmentation=frozenset({"crop"}))


def _pieces(labels: Labels, shape: tuple[int, int, int], separation: float, seed: int, split: int) -> Iterator[Images]:
    means = _means(int(labels.max()) + 1, shape, separation, np.random.default_rng(seed))
    for piece, start in enumerate(range(0, len(labels), PIECE)):
        chosen = labels[start : start + PIECE]
        noise = np.random.default_rng([seed, split, piece]).standard_normal((len(chosen), *shape), dtype=np.float32)
        pixels = _GREY + _NOISE * (means[chosen] + noise)
        yield np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _means(
    classes: int, shape: tuple[int, int, int], separation: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Class means (classes, *shape) in standard deviations of the noise, about `separation` apart."""
    channels, size, _ = shape
    coarse = generator.standard_normal((classes * channels, _COARSE, _COARSE), dtype=np.float32)
    smooth = [np.asarray(Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC)) for each in coarse]
    means = np.stack(smooth).reshape(classes, *shape)
    lengths = np.sqrt((means**2).sum((1, 2, 3), keepdims=True))
    scaled: NDArray[np.float32] = means * (separation / np.sqrt(2) / lengths).astype(np.float32)
    return scaled
