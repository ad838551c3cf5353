"""Folders of images that cannot be used, and images that cannot be read: told by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from sweep.cli.main import main
from sweep.core.dataset import DataError
from sweep.plugins.datasets.imagefolder import imagefolder
from tests.helpers.pictures import picture, two_classes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return two_classes(tmp_path / "images")


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
def test_folders_that_cannot_be_used_are_an_error(folder: Path, name: str) -> None:
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


def a_link_to_nowhere(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.with_name("gone.png"))


def a_link_in_a_circle(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def nothing(file: Path) -> None:
    file.write_bytes(b"")


def test_splits_are_decoded_apart(folder: Path) -> None:
    dataset = imagefolder(root=folder, size=6)
    text_in_place(folder / "test" / "dog" / "1.png")
    assert dataset.splits["train"].images.shape == (4, 3, 6, 6)


@pytest.mark.parametrize(
    "damage", [text_in_place, half_a_jpeg, half_a_png, nothing, a_link_to_nowhere, a_link_in_a_circle]
)
def test_images_that_cannot_be_read_are_named_before_they_are_decoded(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    file = folder / "test" / "dog" / "1.png"
    damage(file)
    with pytest.raises(DataError) as raised:
        imagefolder(root=folder, size=6)
    assert f"cannot read the image {file.with_suffix('')}" in str(raised.value)
    again = "copy or download it again, or" if damage is nothing else "replace it or"
    assert raised.value.hint == f"{again} take it out of the folder"


def test_an_image_beyond_the_bound_is_refused_by_its_header(folder: Path) -> None:
    file = folder / "test" / "dog" / "1.ppm"
    file.write_bytes(b"P6 8001 8000 255\n")
    with pytest.raises(DataError, match=r"1\.ppm: 8001 x 8000 pixels is beyond the bound of 64 million"):
        imagefolder(root=folder, size=6)


def test_an_image_that_cannot_be_read_is_named_by_check(folder: Path) -> None:
    file = folder / "test" / "dog" / "1.png"
    half_a_png(file)
    sweep = folder / "s.yaml"
    text = f"name: s\ndataset: {{imagefolder: {{root: {folder}, size: 8}}}}\n"
    sweep.write_text(f"{text}populations: [{{architecture: mlp}}]\nsubsets: {{pairs: all}}\n")
    for _ in range(2):
        outcome = CliRunner().invoke(main, ["check", str(sweep)])
        assert outcome.exit_code == 2
        assert f"`dataset`: imagefolder: cannot read the image {file}: " in outcome.stderr
        assert "replace it or take it out of the folder" in outcome.stderr
