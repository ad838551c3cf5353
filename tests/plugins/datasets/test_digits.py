"""Digits against their source, parts of any labels, and images that must match their labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from sweep.core.dataset import SPLITS, DataError, Dataset, Split, stratified_split
from sweep.plugins.datasets.digits import digits
from tests.helpers.pictures import Array


def rows(images: Array) -> list[bytes]:
    return sorted(image.tobytes() for image in images)


def test_digits_of_size_8_are_scikit_learns_own() -> None:
    bunch = load_digits()
    dataset = digits(size=8)
    expected = np.round(bunch.images * 255 / 16).astype(np.uint8)[:, None]
    found = np.concatenate([split.images for split in dataset.splits.values()])
    assert found.dtype == np.uint8
    assert found.shape == (1797, 1, 8, 8)
    assert rows(found) == rows(expected)
    for split in dataset.splits.values():
        by_content = {image.tobytes(): label for image, label in zip(expected, bunch.target, strict=True)}
        assert [by_content[image.tobytes()] for image in split.images] == split.labels.tolist()


def test_digits_splits_share_nothing_cover_everything_and_hold_each_class_alike() -> None:
    labels = load_digits().target
    parts = {name: split.labels for name, split in digits().splits.items()}
    assert tuple(parts) == SPLITS
    assert sum(map(len, parts.values())) == len(labels)
    for label in range(10):
        total = int((labels == label).sum())
        for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
            assert abs(int((parts[name] == label).sum()) - share * total) <= 1


def test_digits_splits_depend_on_the_seed_alone() -> None:
    one = digits(size=8, seed=3)
    same = digits(size=8, seed=3)
    other = digits(size=8, seed=4)
    for name in SPLITS:
        assert np.array_equal(one.splits[name].images, same.splits[name].images)
        assert np.array_equal(one.splits[name].labels, same.splits[name].labels)
        assert not np.array_equal(one.splits[name].images, other.splits[name].images)
    larger = digits(size=11, seed=3)
    assert all(np.array_equal(larger.splits[name].labels, one.splits[name].labels) for name in SPLITS)


def test_another_split_moves_training_and_validation_images_alone() -> None:
    plain = digits(size=8, seed=3)
    cuts = [digits(size=8, seed=3, split=split) for split in (0, 1)]
    for one in cuts:
        assert np.array_equal(one.splits["test"].images, plain.splits["test"].images)
        found = np.concatenate([one.splits[name].images for name in ("train", "validation")])
        assert rows(found) == rows(np.concatenate([plain.splits[name].images for name in ("train", "validation")]))
        for name in ("train", "validation"):
            counts = np.bincount(one.splits[name].labels), np.bincount(plain.splits[name].labels)
            assert np.abs(counts[0] - counts[1]).max() <= 1
    trained = [rows(one.splits["train"].images) for one in (plain, *cuts)]
    assert trained[0] != trained[1] != trained[2] != trained[0]


def test_digits_take_the_size_and_channels_that_are_asked_for() -> None:
    dataset = digits(size=13, channels=3)
    images = dataset.splits["test"].images
    assert images.shape[1:] == (3, 13, 13)
    assert (images == images[:, :1]).all()
    assert (dataset.channels, len(dataset.mean), len(dataset.std), len(dataset.classes)) == (3, 3, 3, 10)


def test_digits_normalisation_is_that_of_the_images() -> None:
    dataset = digits(size=8)
    pixels = dataset.splits["train"].images / 255
    assert dataset.mean[0] == pytest.approx(pixels.mean(), abs=0.01)
    assert dataset.std[0] == pytest.approx(pixels.std(), abs=0.01)


LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(lambda found: np.array(found, dtype=np.int64))


@given(LABELS, st.lists(st.floats(0, 0.4), min_size=1, max_size=2), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_stratified_parts(labels: Array, shares: list[float], seed: int) -> None:
    parts = stratified_split(labels, shares, seed)
    assert len(parts) == len(shares) + 1
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, share in zip(parts, shares, strict=False):
        assert part.tolist() == sorted(part.tolist())
        for label in np.unique(labels):
            assert abs((labels[part] == label).sum() - share * (labels == label).sum()) <= 1
    again = stratified_split(labels, shares, seed)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def test_images_and_labels_must_match() -> None:
    split = Split(np.zeros(3, dtype=np.int64), lambda: np.zeros((2, 1, 4, 4), dtype=np.uint8))
    with pytest.raises(DataError, match=r"^2 images for 3 labels$"):
        _ = split.images
    full = Split(np.zeros(2, dtype=np.int64), lambda: np.zeros((2, 1, 4, 4), dtype=np.uint8))
    with pytest.raises(DataError, match=r"^1 class: a classifier needs at least two$"):
        Dataset(("a",), dict.fromkeys(SPLITS, full), (0.5,), (0.5,), 4)
    with pytest.raises(DataError, match=r"^no images in train, test$"):
        Dataset(("a", "b"), {"validation": full}, (0.5,), (0.5,), 4)
