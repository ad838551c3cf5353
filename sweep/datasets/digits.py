"""The 1,797 handwritten digits that scikit-learn ships: real images, no download."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sweep.data import Channels, Dataset, Images, Pixels, stratified_split, subset


def digits(*, size: Pixels = 16, channels: Channels = 1, seed: int = 0) -> Dataset:
    """Handwritten digits (10 classes, 8x8 grey, resized), 60% train, 20% validation, 20% test, stratified by `seed`.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998, as bundled by scikit-learn.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    images = np.repeat(_resized(bunch.images, size)[:, None], channels, axis=1)
    train, validation, test = stratified_split(labels, (0.6, 0.2), seed)
    parts = {"train": train, "validation": validation, "test": test}
    return Dataset(
        classes=tuple(str(name) for name in bunch.target_names),
        splits={name: subset(labels, images, indices) for name, indices in parts.items()},
        mean=(0.3053,) * channels,
        std=(0.3762,) * channels,
        size=size,
    )


def _resized(images: np.ndarray, size: int) -> Images:
    """(examples, 8, 8) with values 0 to 16 -> (examples, size, size) uint8, bilinear."""
    grey = np.round(images * (255 / 16)).astype(np.uint8)
    if size == grey.shape[1]:
        return grey
    pictures = [Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in grey]
    return np.stack([np.asarray(picture) for picture in pictures])
