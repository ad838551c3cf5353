"""MNIST from its idx files."""

from __future__ import annotations

from pathlib import Path

from sweep.core.dataset import Channels, Dataset, Pixels, PublishedInfo, Seed, Share
from sweep.plugins.datasets._idx import Layout, files_of, idx

CITES = ("lecun1998gradient",)

RECIPE = {"crop": 2}
ON_PAPER = PublishedInfo(classes=10, train=60_000, test=10_000)
FILES = files_of(
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "MNIST",
    [
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ],
)

_LAYOUT = Layout("mnist", "MNIST", tuple("0123456789"), 0.1307, 0.3081, frozenset({"crop"}))


def mnist(
    *, root: Path, size: Pixels = 28, channels: Channels = 1, split: Seed = 0, validation: Share = 0.1
) -> Dataset:
    """MNIST (handwritten digits, 10 classes, 28x28 grey): 60,000 training and 10,000 test images.

    Read from root/MNIST/raw. `validation` is the share of the training images held out for validation, in
    a stratified random split with the seed `split`. Raises DataError for missing or damaged files.
    Source: Y. LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 1998.
    """
    return idx(_LAYOUT, root, size, channels).split(split, validation)
