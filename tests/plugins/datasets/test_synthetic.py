"""Synthetic images: classes as far apart as is said, from settings alone, and none before they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.core.dataset import DataError
from sweep.plugins.datasets._pictures import PIECE
from sweep.plugins.datasets.synthetic import synthetic


@pytest.mark.parametrize("separation", [0.0, 2.0, 4.0])
def test_the_distance_of_synthetic_classes_is_the_separation(separation: float) -> None:
    """Of two classes the nearest mean errs on Φ(-separation / 2)."""
    from scipy.stats import norm

    dataset = synthetic(classes=2, examples=6000, size=8, separation=separation)
    flat = {name: split.images.reshape(len(split), -1) / 32.0 for name, split in dataset.splits.items()}
    means = [flat["train"][dataset.splits["train"].labels == label].mean(0) for label in range(2)]
    distances = np.stack([((flat["test"] - mean) ** 2).sum(1) for mean in means])
    error = (distances.argmin(0) != dataset.splits["test"].labels).mean()
    assert error == pytest.approx(norm.cdf(-separation / 2), abs=0.06)


def test_synthetic_images_depend_on_settings_alone() -> None:
    one = synthetic(examples=1100)
    more = synthetic(examples=3000)
    other = synthetic(examples=1100, seed=1)
    first = one.splits["train"].images
    assert np.array_equal(more.splits["train"].images[:PIECE], first[:PIECE])
    assert not np.array_equal(other.splits["train"].images, first)
    assert one.fingerprint == ""
    levels = first / 255
    assert levels.mean((0, 2, 3)) == pytest.approx(one.mean, abs=0.01)
    assert levels.std((0, 2, 3)) == pytest.approx(one.std, abs=0.01)
    assert [len(split) for split in one.splits.values()] == [1100, 220, 220]


def test_synthetic_data_of_any_number_cost_nothing_until_they_are_decoded() -> None:
    dataset = synthetic(classes=1000, examples=1_000_000, size=224)
    assert len(dataset.splits["train"]) == 1_000_000
    with pytest.raises(DataError, match="20 images in a split for 100 classes"):
        synthetic(classes=100, examples=100)
