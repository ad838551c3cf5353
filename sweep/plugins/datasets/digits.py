"""The 1,797 handwritten digits that scikit-learn ships: real images, no download."""

from __future__ import annotations

import numpy as np

from sweep.core.dataset import Channels, Dataset, Pixels, stratified_split, subset
from sweep.plugins.datasets._pictures import resized

CITES = ("alpaydin1998digits",)


def digits(*, size: Pixels = 16, channels: Channels = 1, seed: int = 0) -> Dataset:
    """1,797 handwritten digits of scikit-learn (10 classes, 8x8 grey): 60% train, 20% validation, 20% test.

    Resized to `size`; the stratified split is random with the seed `seed`.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998, as bundled by scikit-learn.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(resized(grey[:, None], size), channels, axis=1)
    train, validation, test = stratified_split(labels, (0.6, 0.2), seed)
    parts = {"train": train, "validation": validation, "test": test}
    return Dataset(
        classes=tuple(str(name) for name in bunch.target_names),
        splits={name: subset(labels, images, indices) for name, indices in parts.items()},
        mean=(0.3053,) * channels,
        std=(0.3762,) * channels,
        size=size,
        augmentation=frozenset({"crop"}),
    )
