"""The 1,797 handwritten digits that scikit-learn ships: real images, no download."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sweep.core.dataset import Channels, Dataset, Pixels, Seed, stratified_split, subset
from sweep.plugins.datasets._pictures import resized

CITES = ("alpaydin1998digits",)


def digits(*, size: Pixels = 16, channels: Channels = 1, seed: Seed = 0, split: Seed | None = None) -> Dataset:
    """1,797 handwritten digits of scikit-learn (10 classes, 8x8 grey): 60% train, 20% validation, 20% test.

    Resized to `size`; the stratified split is random with the seed `seed`. A `split` draws training and
    validation images anew and leaves the test images.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998, as bundled by scikit-learn.
    """
    table = _read_table()
    labels = table[:, 64]
    grey = np.round(table[:, :64].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.repeat(resized(grey, size), channels, axis=1)
    train, validation, test = stratified_split(labels, (0.6, 0.2), seed)
    if split is not None:
        rest = np.sort(np.concatenate([train, validation]))
        train, validation = (rest[part] for part in stratified_split(labels[rest], (0.75,), split))
    parts = {"train": train, "validation": validation, "test": test}
    return Dataset(
        classes=tuple(map(str, range(10))),
        splits={name: subset(labels, images, indices) for name, indices in parts.items()},
        mean=(0.3053,) * channels,
        std=(0.3762,) * channels,
        size=size,
        augmentation=frozenset({"crop"}),
    )


def _read_table() -> np.ndarray:
    """One row per image: 64 pixels from 0 to 16, and the class. To import scikit-learn for it would take a second."""
    package = find_spec("sklearn")
    assert package is not None
    with gzip.open(Path(str(package.origin)).parent / "datasets/data/digits.csv.gz", "rt") as file:
        return np.loadtxt(file, delimiter=",", dtype=np.int64)
