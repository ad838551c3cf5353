"""Laws of every data set, made from tiny files: what images, labels, splits, seeds and fingerprints are."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sweep.core.choice import PluginConfig
from sweep.core.dataset import SPLITS, unsupported_augmentations
from sweep.core.registry import get_plugin, list_plugins
from sweep.plugins.datasets.mnist import mnist
from sweep.plugins.datasets.tiny_imagenet import tiny_imagenet
from sweep.status.dataset_info import published_info
from tests.helpers.dataset_files import EACH, EVERY, IN_FILES, MAKERS, SPLIT_HERE, TESTED, WORDS, jpeg, made, rows


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Case -> settings of a data set whose files are there."""
    return {case: make(tmp_path_factory.mktemp("made") / "files") for case, (_, make) in MAKERS.items()}


def test_every_data_set_is_made_from_tiny_files_here() -> None:
    assert {name for name, _ in MAKERS.values()} == set(list_plugins("datasets"))


@EVERY
def test_images_and_labels_are_what_the_rest_counts_on(case: str, written: dict[str, Any]) -> None:
    dataset = made(case, written[case])
    assert set(dataset.splits) == set(SPLITS)
    assert len(dataset.mean) == len(dataset.std) == dataset.channels
    for split in dataset.splits.values():
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        assert split.images.flags.c_contiguous
        assert split.images.shape == (len(split), dataset.channels, dataset.size, dataset.size)
        assert np.unique(split.labels).tolist() == list(range(len(dataset.classes))), "every class in every split"


@pytest.mark.parametrize("case", [case for case in MAKERS if case != "digits"])  # of which a few are equal
def test_splits_share_nothing(case: str, written: dict[str, Any]) -> None:
    splits = made(case, written[case]).splits.values()
    everything = rows(*(split.images for split in splits))
    assert len(set(everything)) == len(everything) == sum(map(len, splits))


@EVERY
def test_the_order_is_the_same_every_time(case: str, written: dict[str, Any]) -> None:
    one, other = (made(case, written[case]) for _ in range(2))
    assert one.fingerprint == other.fingerprint
    for name in SPLITS:
        assert np.array_equal(one.splits[name].labels, other.splits[name].labels)
        assert np.array_equal(one.splits[name].images, other.splits[name].images)


@pytest.mark.parametrize("case", SPLIT_HERE)
def test_the_seed_moves_examples_between_train_and_validation_only(case: str, written: dict[str, Any]) -> None:
    one, other = (made(case, written[case] | {"split": seed}).splits for seed in (0, 1))
    assert np.array_equal(one["test"].images, other["test"].images)
    assert np.array_equal(one["test"].labels, other["test"].labels)
    assert rows(one["validation"].images) != rows(other["validation"].images)
    shared = [rows(splits["train"].images, splits["validation"].images) for splits in (one, other)]
    assert shared[0] == shared[1]
    assert one["test"].key == other["test"].key, "the test is decoded once, whatever the split"
    if one["train"].key:  # data in memory is not decoded, and has none
        assert one["train"].key != other["train"].key


@EVERY
def test_a_pickled_data_set_is_the_same_arrays(case: str, written: dict[str, Any]) -> None:
    dataset = made(case, written[case])
    other = pickle.loads(pickle.dumps(dataset))
    for name in SPLITS:
        assert np.array_equal(other.splits[name].images, dataset.splits[name].images)
        assert np.array_equal(other.splits[name].labels, dataset.splits[name].labels)
    facts = [(each.classes, each.fingerprint, each.augmentation) for each in (dataset, other)]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("case", IN_FILES)
def test_the_fingerprint_tells_content_from_place(case: str, written: dict[str, Any], tmp_path: Path) -> None:
    before = made(case, written[case]).fingerprint
    assert len(before) == 32
    make = MAKERS[case][1]
    assert made(case, make(tmp_path / "copy")).fingerprint == before
    assert made(case, make(tmp_path / "more", each=2 * EACH)).fingerprint != before


@EVERY
def test_a_mapped_split_holds_the_same_images(
    case: str, written: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path))
    plain, mapped = (made(case, written[case]).splits for _ in range(2))
    for name in SPLITS:
        mapped[name].bound = 0
        assert np.array_equal(mapped[name].images, plain[name].images)
        assert (mapped[name].file is None) == (case == "digits"), "all but the small digits have a key"
        if case != "digits":
            assert isinstance(mapped[name].images, np.memmap)
    assert len(list(tmp_path.glob("*.npy"))) == (0 if case == "digits" else 3)


@EVERY
def test_images_take_the_size_that_is_asked_for(case: str, written: dict[str, Any]) -> None:
    small, native = (made(case, written[case] | more) for more in ({"size": 9}, {}))
    assert small.size == 9
    for name in SPLITS:
        assert small.splits[name].images.shape[1:] == (small.channels, 9, 9)
        assert np.array_equal(small.splits[name].labels, native.splits[name].labels)


def test_digits_must_not_be_mirrored(written: dict[str, Any]) -> None:
    upright = {case for case in MAKERS if "flip" not in made(case, written[case]).augmentation}
    assert upright == {"digits", "mnist", "svhn", "synthetic"}
    dataset = made("mnist", written["mnist"])
    expected = [
        ("flip", "`flip` changes what the images of this data set show", "what leaves their class as it is: `crop`")
    ]
    assert unsupported_augmentations(dataset, {"crop": 2, "flip": True}) == expected
    assert unsupported_augmentations(dataset, {"crop": 2, "flip": False}) == []
    assert unsupported_augmentations(made("cifar10", written["cifar10"]), {"crop": 4, "flip": True}) == []


@EVERY
def test_what_is_stated_of_a_data_set_is_true_of_it(case: str, written: dict[str, Any]) -> None:
    entry = get_plugin("datasets", MAKERS[case][0])
    dataset = made(case, written[case])
    assert unsupported_augmentations(dataset, entry.constant("RECIPE") or {}) == []
    about = published_info(PluginConfig("datasets", entry.name, entry.validate(written[case])))
    if about:
        assert about.shape[1:] == (dataset.channels, dataset.size)
        assert about.examples.keys() == dataset.splits.keys()


def test_grey_images_may_have_more_channels(written: dict[str, Any]) -> None:
    dataset = mnist(**written["mnist"], channels=3)
    images = dataset.splits["test"].images
    assert (images == mnist(**written["mnist"]).splits["test"].images).all()
    assert (dataset.channels, len(dataset.mean), images.shape[1]) == (3, 3, 3)


def test_the_two_forms_of_tiny_imagenet_hold_the_same(written: dict[str, Any]) -> None:
    folders, tables = (tiny_imagenet(**written[f"tiny_imagenet{end}"]) for end in ("", " in tables"))
    assert folders.classes == ("goldfish", "European fire salamander", "king penguin")
    assert tables.classes == tuple(WORDS)
    assert rows(folders.splits["test"].images) == rows(tables.splits["test"].images)
    for name in ("train", "validation"):
        assert np.array_equal(folders.splits[name].images, tables.splits[name].images)
        assert np.array_equal(folders.splits[name].labels, tables.splits[name].labels)
    expected = np.asarray(Image.open(io.BytesIO(jpeg(1000))).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(folders.splits["test"].images[0], expected)
    assert folders.splits["test"].labels.tolist() == [0, 1, 2] * TESTED
