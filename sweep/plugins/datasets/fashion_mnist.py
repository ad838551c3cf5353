"""Fashion-MNIST from its idx files."""

from __future__ import annotations

from pathlib import Path

from sweep.core.dataset import AUGMENTATIONS, Channels, Dataset, Pixels, PublishedInfo, Seed, Share
from sweep.plugins.datasets._idx import Layout, files_of, idx

CITES = ("xiao2017fashion",)

RECIPE = {"crop": 2, "flip": True}
ON_PAPER = PublishedInfo(classes=10, train=60_000, test=10_000)
FILES = files_of(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "FashionMNIST",
    [
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ],
)

_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_LAYOUT = Layout("fashion_mnist", "FashionMNIST", _CLASSES, 0.2860, 0.3530, AUGMENTATIONS)


def fashion_mnist(
    *, root: Path, size: Pixels = 28, channels: Channels = 1, split: Seed = 0, validation: Share = 0.1
) -> Dataset:
    """Fashion-MNIST (clothes, 10 classes, 28x28 grey): 60,000 training and 10,000 test images.

    Read from root/FashionMNIST/raw. `validation` is the share of the training images held out for validation, in
    a stratified random split with the seed `split`. Raises DataError for missing or damaged files.
    Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747.
    """
    return idx(_LAYOUT, root, size, channels).split(split, validation)
