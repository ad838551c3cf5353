"""Folders of images: exact pixels of every format, decoded once, wherever they lie."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweep.core.dataset import SPLITS, DataError
from sweep.plugins.datasets.digits import digits
from sweep.plugins.datasets.imagefolder import imagefolder
from tests.helpers.pictures import Array, picture, two_classes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return two_classes(tmp_path / "images")


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
    left = (size[0] - 6) // 2
    top = (size[1] - 6) // 2
    expected = picture(5, size)[top : top + 6, left : left + 6].transpose(2, 0, 1)
    assert np.array_equal(first_image(folder, "x.png"), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 5), (64, 64), (3, 100)])
def test_any_shape_becomes_a_square(folder: Path, size: tuple[int, int]) -> None:
    Image.fromarray(picture(5, size)).save(folder / "train" / "cat" / "x.png")
    assert first_image(folder, "x.png").shape == (3, 6, 6)


def test_images_are_decoded_when_asked_for_and_once(folder: Path) -> None:
    dataset = imagefolder(root=folder, size=6)
    first = dataset.splits["train"].images
    shutil.rmtree(folder)
    assert dataset.splits["train"].images is first
    assert dataset.splits["test"].labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="cannot read the image"):
        _ = dataset.splits["test"].images


def test_a_home_folder_is_meant_by_its_sign(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert imagefolder(root=Path("~/images"), size=6).fingerprint == imagefolder(root=folder, size=6).fingerprint


def test_a_pickled_data_set_is_the_same_arrays(folder: Path) -> None:
    for dataset in (imagefolder(root=folder, size=6), digits(size=8)):
        other = pickle.loads(pickle.dumps(dataset))
        for name in SPLITS:
            assert np.array_equal(other.splits[name].images, dataset.splits[name].images)
            assert np.array_equal(other.splits[name].labels, dataset.splits[name].labels)
        facts = [(d.classes, d.mean, d.std, d.size, d.fingerprint, d.channels) for d in (dataset, other)]
        assert facts[0] == facts[1]
