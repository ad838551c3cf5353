"""CIFAR-10 from its Python batches."""

from __future__ import annotations

from pathlib import Path

from sweep.core.dataset import Dataset, Part, Pixels, PublishedInfo, Seed, Share
from sweep.plugins.datasets._cifar import Layout, cifar

CITES = ("krizhevsky2009learning",)

RECIPE = {"crop": 4, "flip": True}
ON_PAPER = PublishedInfo(classes=10, train=50_000, test=10_000)
FILES = (
    Part(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        md5="c58f30108f718f92721af3b95e74349a",
        file="cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
    ),
)

_LAYOUT = Layout(
    name="cifar10",
    folder="cifar-10-batches-py",
    parts={"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]},
    meta="batches.meta",
    labels="labels",
    classes="label_names",
)


def cifar10(*, root: Path, size: Pixels = 32, split: Seed = 0, validation: Share = 0.1) -> Dataset:
    """CIFAR-10 (objects and animals, 10 classes, 32x32 RGB): 50,000 training and 10,000 test images.

    Read from root/cifar-10-batches-py. `validation` is the share of the training images held out for validation, in
    a stratified random split with the seed `split`. Raises DataError for missing or damaged files.
    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    return cifar(_LAYOUT, root, size, mean, std).split(split, validation)
