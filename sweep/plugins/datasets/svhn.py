"""Street View House Numbers from their Matlab files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.core.dataset import DataError, Dataset, Images, Labels, Part, Pixels, PublishedInfo, Seed, Share
from sweep.core.paths import expand
from sweep.plugins.datasets._published import Published, check_files, check_labels, image_digests, iter_images

CITES = ("netzer2011reading",)

RECIPE = {"crop": 4}
ON_PAPER = PublishedInfo(classes=10, train=73_257, test=26_032)
FILES = (
    Part(
        url="http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
        md5="e26dedcc434d2e4c54c9b2d4a06d8373",
        file="train_32x32.mat",
    ),
    Part(
        url="http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
        md5="eb5a983be6a315427106f1b164d9cef3",
        file="test_32x32.mat",
    ),
)

_CLASSES = tuple("0123456789")


def svhn(*, root: Path, size: Pixels = 32, split: Seed = 0, validation: Share = 0.1) -> Dataset:
    """SVHN (digits of house numbers, 10 classes, 32x32 RGB): 73,257 training and 26,032 test images.

    Read from root/*_32x32.mat. `validation` is the share of the training images held out for validation, in
    a stratified random split with the seed `split`. Raises DataError for missing or damaged files.
    Source: Y. Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", NIPS workshop 2011.
    """
    files = {part: expand(root) / f"{part}_32x32.mat" for part in ("train", "test")}
    check_files("svhn", root, files.values())
    labels = {part: _labels(file) for part, file in files.items()}
    pieces = partial(iter_images, partial(_images, files), labels, size, 3)
    mean = (0.4377, 0.4438, 0.4728)
    std = (0.1980, 0.2010, 0.1970)
    digests = image_digests({part: [file] for part, file in files.items()}, "svhn", _read_images)
    about = Published("svhn", _CLASSES, mean, std, size, digests, labels, pieces, frozenset({"crop"}))
    return about.split(split, validation)


def _labels(file: Path) -> Labels:
    """Labels from 0; in the file, 10 stands for the digit 0."""
    labels = _variable(file, "y").reshape(-1)
    return check_labels(np.where(labels == 10, 0, labels), len(_CLASSES), file)


def _images(files: Mapping[str, Path], part: str) -> Images:
    return _read_images(files[part])


def _read_images(file: Path) -> Images:
    """(examples, 3, 32, 32) of the file's (32, 32, 3, examples)."""
    images = _variable(file, "X")
    if images.ndim != 4 or images.shape[:3] != (32, 32, 3) or images.dtype != np.uint8:
        raise DataError(f"{file}: `X` is {images.shape} of {images.dtype}")
    return images.transpose(3, 2, 0, 1)


def _variable(file: Path, name: str) -> NDArray[Any]:
    from scipy.io import loadmat

    try:
        variable: NDArray[Any] = loadmat(file, variable_names=[name])[name]
    except Exception as error:  # scipy's reader raises many kinds of errors for a damaged file
        raise DataError(f"cannot read {file}: {error}", "remove it and fetch it again") from error
    if not isinstance(variable, np.ndarray):
        raise DataError(f"{file}: `{name}` is no array", "remove it and fetch it again")
    return variable
