"""Data sets against their sources: exact pixels, splits that share nothing, and damage told by name."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from sweep.data import SPLITS, DataError, Dataset, Split, stratified_split
from sweep.datasets.digits import digits
from sweep.datasets.imagefolder import imagefolder

Array = NDArray[Any]


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
    one, same, other = digits(size=8, seed=3), digits(size=8, seed=3), digits(size=8, seed=4)
    for name in SPLITS:
        assert np.array_equal(one.splits[name].images, same.splits[name].images)
        assert np.array_equal(one.splits[name].labels, same.splits[name].labels)
        assert not np.array_equal(one.splits[name].images, other.splits[name].images)
    larger = digits(size=11, seed=3)
    assert all(np.array_equal(larger.splits[name].labels, one.splits[name].labels) for name in SPLITS)


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


def picture(seed: int, size: tuple[int, int] = (6, 6), channels: int = 3) -> Array:
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, two images of six pixels each way in every split."""
    root = tmp_path / "images"
    for place, split in enumerate(("train", "val", "test")):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for index in range(2):
                seed = 10 * place + 3 * label + index
                Image.fromarray(picture(seed)).save(root / split / name / f"{index}.png")
    return root


def test_images_of_the_right_size_are_kept_exactly(folder: Path) -> None:
    dataset = imagefolder(root=folder, size=6)
    assert dataset.classes == ("cat", "dog")
    for place, name in enumerate(SPLITS):
        split = dataset.splits[name]
        assert split.labels.tolist() == [0, 0, 1, 1]
        for image, label, index in zip(split.images, split.labels, (0, 1, 0, 1), strict=True):
            assert np.array_equal(image, picture(10 * place + 3 * int(label) + index).transpose(2, 0, 1))


def test_one_mean_means_grey(folder: Path) -> None:
    dataset = imagefolder(root=folder, size=6, mean=(0.5,), std=(0.5,))
    assert dataset.channels == 1
    grey = np.asarray(Image.fromarray(picture(0)).convert("L"))
    assert np.array_equal(dataset.splits["train"].images[0, 0], grey)


def first_image(folder: Path, name: str, size: int = 6, grey: bool = False) -> Array:
    """The pixels of the only image of class `cat` in train, once `name` has been put in the place of both."""
    for old in (folder / "train" / "cat").glob("[01].*"):
        old.unlink()
    statistics = {"mean": (0.5,), "std": (0.5,)} if grey else {}
    dataset = imagefolder(root=folder, size=size, **statistics)
    assert len(dataset.splits["train"]) == 3, f"{name} and two dogs"
    return dataset.splits["train"].images[0]


def test_formats_that_lose_nothing_give_the_same_pixels(folder: Path) -> None:
    place = folder / "train" / "cat"
    for suffix in ("bmp", "tiff", "ppm", "TIF"):
        Image.fromarray(picture(1)).save(place / f"x.{suffix}")
        assert np.array_equal(first_image(folder, suffix), picture(1).transpose(2, 0, 1))
        (place / f"x.{suffix}").unlink()


def test_jpeg_and_gif_are_decoded(folder: Path) -> None:
    place = folder / "train" / "cat"
    smooth = np.tile(np.linspace(0, 250, 6).astype(np.uint8)[:, None], (1, 6))
    for suffix in ("jpeg", "gif"):
        Image.fromarray(smooth).save(place / f"x.{suffix}")
        found = first_image(folder, suffix)
        assert np.abs(found.astype(int) - smooth).max() <= 6
        (place / f"x.{suffix}").unlink()


def test_sixteen_bits_are_scaled_not_clipped(folder: Path) -> None:
    deep = (np.arange(36, dtype=np.uint16) * 1800).reshape(6, 6)
    Image.fromarray(deep).save(folder / "train" / "cat" / "x.png")
    for grey in (True, False):
        found = first_image(folder, "x.png", grey=grey)
        assert np.array_equal(found, np.broadcast_to(deep // 257, found.shape))


def test_cmyk_palettes_and_transparency_become_rgb(folder: Path) -> None:
    place = folder / "train" / "cat"
    ink = np.zeros((6, 6, 4), dtype=np.uint8)
    ink[..., 0] = 255  # cyan only
    Image.fromarray(ink, "CMYK").save(place / "x.tif")
    assert first_image(folder, "cmyk")[:, 0, 0].tolist() == [0, 255, 255]
    (place / "x.tif").unlink()
    clear = np.dstack([picture(1), np.full((6, 6), 77, dtype=np.uint8)])
    Image.fromarray(clear).save(place / "x.png")
    assert np.array_equal(first_image(folder, "rgba"), picture(1).transpose(2, 0, 1))
    Image.fromarray(picture(2, channels=1)).convert("P").save(place / "x.png", transparency=b"\x00" * 256)
    assert np.array_equal(first_image(folder, "palette")[0], picture(2, channels=1))


@pytest.mark.parametrize("size", [(12, 6), (6, 12), (6, 7), (30, 6), (6, 6)])
def test_the_centre_is_kept(folder: Path, size: tuple[int, int]) -> None:
    Image.fromarray(picture(5, size)).save(folder / "train" / "cat" / "x.png")
    left, top = (size[0] - 6) // 2, (size[1] - 6) // 2
    expected = picture(5, size)[top : top + 6, left : left + 6].transpose(2, 0, 1)
    assert np.array_equal(first_image(folder, "x.png"), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 5), (64, 64), (3, 100)])
def test_any_shape_becomes_a_square(folder: Path, size: tuple[int, int]) -> None:
    Image.fromarray(picture(5, size)).save(folder / "train" / "cat" / "x.png")
    assert first_image(folder, "x.png").shape == (3, 6, 6)


def no_images(folder: Path) -> None:
    for file in (folder / "val").rglob("*.png"):
        file.rename(file.with_suffix(".txt"))


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no folder": (
        shutil.rmtree,
        "no folder {root}/train",
        "images belong in root/{train,val,test}/<class>/",
    ),
    "no validation": (
        lambda root: shutil.rmtree(root / "val"),
        "no folder {root}/val",
        "images belong in root/{train,val,test}/<class>/",
    ),
    "one class": (
        lambda root: [shutil.rmtree(root / split / "dog") for split in ("train", "val", "test")],
        "1 class in {root}/train",
        "a classifier needs at least two class folders",
    ),
    "a class too many": (
        lambda root: (root / "test" / "eel").mkdir(),
        "classes of {root}/test differ from train: eel",
        "",
    ),
    "another class": (
        lambda root: (root / "val" / "dog").rename(root / "val" / "fox"),
        "classes of {root}/val differ from train: dog, fox",
        "",
    ),
    "no images in a split": (no_images, "no images in validation", ""),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_folders_that_cannot_be_used_are_told(folder: Path, name: str) -> None:
    damage, what, hint = BAD_FOLDERS[name]
    damage(folder)
    with pytest.raises(DataError) as raised:
        imagefolder(root=folder, size=6)
    assert (str(raised.value), raised.value.hint) == (what.format(root=folder) if "{" in what else what, hint)


def test_two_means_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"^2 means: images are grey \(1\) or RGB \(3\)$"):
        imagefolder(root=folder, mean=(0.5, 0.5), std=(0.5, 0.5))
    with pytest.raises(DataError, match=r"^1 means for 3 standard deviations$"):
        imagefolder(root=folder, mean=(0.5,))


def text_in_place(file: Path) -> None:
    file.write_text("no image")


def half_a_jpeg(file: Path) -> None:
    file.unlink()
    file = file.with_suffix(".jpg")
    Image.fromarray(picture(0, (64, 64))).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def half_a_png(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:80])


def nothing(file: Path) -> None:
    file.write_bytes(b"")


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [text_in_place, half_a_jpeg, half_a_png, nothing, a_folder])
def test_images_that_cannot_be_read_are_named(folder: Path, damage: Callable[[Path], None]) -> None:
    file = folder / "test" / "dog" / "1.png"
    damage(file)
    dataset = imagefolder(root=folder, size=6)
    assert dataset.splits["train"].images.shape == (4, 3, 6, 6), "splits are decoded apart"
    with pytest.raises(DataError) as raised:
        dataset.decode()
    assert f"cannot read the image {file.with_suffix('')}" in str(raised.value)
    assert raised.value.hint == "replace it or take it out of the folder"


def test_an_image_beyond_the_bound_is_refused_by_its_header(folder: Path) -> None:
    file = folder / "test" / "dog" / "1.ppm"
    file.write_bytes(b"P6 8001 8000 255\n")
    with pytest.raises(DataError, match=r"1\.ppm: 8001 x 8000 pixels is beyond the bound of 64 million"):
        imagefolder(root=folder, size=6).decode()


def test_images_are_decoded_when_asked_for_and_once(folder: Path) -> None:
    dataset = imagefolder(root=folder, size=6)
    first = dataset.splits["train"].images
    shutil.rmtree(folder)
    assert dataset.splits["train"].images is first
    assert dataset.splits["test"].labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="cannot read the image"):
        _ = dataset.splits["test"].images


def test_the_fingerprint_tells_content_from_place(folder: Path, tmp_path: Path) -> None:
    before = imagefolder(root=folder, size=6).fingerprint
    assert len(before) == 32
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    folder.rename(moved)
    assert imagefolder(root=moved, size=6).fingerprint == before
    added = moved / "test" / "cat" / "2.png"
    Image.fromarray(picture(99)).save(added)
    after = imagefolder(root=moved, size=6).fingerprint
    assert after != before
    added.rename(added.with_name("3.png"))
    assert imagefolder(root=moved, size=6).fingerprint not in (before, after)
    added.with_name("3.png").unlink()
    assert imagefolder(root=moved, size=6).fingerprint == before


def test_a_home_folder_is_meant_by_its_sign(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert imagefolder(root=Path("~/images"), size=6).fingerprint == imagefolder(root=folder, size=6).fingerprint


def test_a_pickled_data_set_is_the_same_arrays(folder: Path) -> None:
    for dataset in (imagefolder(root=folder, size=6), digits(size=8)):
        other = pickle.loads(pickle.dumps(dataset))
        for name in SPLITS:
            assert np.array_equal(other.splits[name].images, dataset.splits[name].images)
            assert np.array_equal(other.splits[name].labels, dataset.splits[name].labels)
        told = [(d.classes, d.mean, d.std, d.size, d.fingerprint, d.channels) for d in (dataset, other)]
        assert told[0] == told[1]


def test_images_and_labels_must_match() -> None:
    split = Split(np.zeros(3, dtype=np.int64), lambda: np.zeros((2, 1, 4, 4), dtype=np.uint8))
    with pytest.raises(DataError, match=r"^2 images for 3 labels$"):
        _ = split.images
    full = Split(np.zeros(2, dtype=np.int64), lambda: np.zeros((2, 1, 4, 4), dtype=np.uint8))
    with pytest.raises(DataError, match=r"^1 class: a classifier needs at least two$"):
        Dataset(("a",), dict.fromkeys(SPLITS, full), (0.5,), (0.5,), 4)
    with pytest.raises(DataError, match=r"^no images in train, test$"):
        Dataset(("a", "b"), {"validation": full}, (0.5,), (0.5,), 4)
