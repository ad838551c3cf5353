"""CIFAR-100 from its Python batches."""

from __future__ import annotations

from pathlib import Path

from sweep.core.dataset import Dataset, Part, Pixels, PublishedInfo, Seed, Share
from sweep.plugins.datasets._cifar import Layout, cifar

CITES = ("krizhevsky2009learning",)

RECIPE = {"crop": 4, "flip": True}
ON_PAPER = PublishedInfo(classes=100, train=50_000, test=10_000)
FILES = (
    Part(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        md5="eb9058c3a382ffc7106e4002c42a8d85",
        file="cifar-100-python.tar.gz",
        folder="cifar-100-python",
    ),
)

_LAYOUT = Layout(
    name="cifar100",
    folder="cifar-100-python",
    parts={"train": ["train"], "test": ["test"]},
    meta="meta",
    labels="fine_labels",
    classes="fine_label_names",
)


def cifar100(*, root: Path, size: Pixels = 32, split: Seed = 0, validation: Share = 0.1) -> Dataset:
    """CIFAR-100 (objects and animals, 100 classes, 32x32 RGB): 50,000 training and 10,000 test images.

    Read from root/cifar-100-python. `validation` is the share of the training images held out for validation, in
    a stratified random split with the seed `split`. Raises DataError for missing or damaged files.
    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
    return cifar(_LAYOUT, root, size, mean, std).split(split, validation)
