"""What a folder of images holds is counted: classes without images, whatever is not read, and names of any bytes."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweep.core.dataset import SPLITS, DataError, warn_once
from sweep.core.paths import PathError
from sweep.plugins.datasets.imagefolder import imagefolder
from tests.helpers.command import SWEEP
from tests.helpers.pictures import picture, two_classes


@pytest.fixture(autouse=True)
def new_process() -> None:
    """Nothing has been logged in this process."""
    warn_once.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return two_classes(tmp_path / "images")


def into_a_deeper_folder(root: Path) -> None:
    (root / "train" / "cat" / "more" / "deep").mkdir(parents=True)
    for number in range(2):
        (root / "train" / "cat" / f"{number}.png").rename(root / "train" / "cat" / "more" / "deep" / f"{number}.png")


def into_a_linked_folder(root: Path) -> None:
    (root / "train" / "cat").rename(root.parent / "cats")
    (root / "train" / "cat").mkdir()
    (root / "train" / "cat" / "link").symlink_to(root.parent / "cats")
    (root.parent / "cats" / "around").symlink_to(root.parent / "cats")


def with_another_suffix(root: Path) -> None:
    for number in range(2):
        (root / "train" / "cat" / f"{number}.png").rename(root / "train" / "cat" / f"{number}.heic")


def an_empty_class(root: Path) -> None:
    for split in ("train", "val", "test"):
        (root / split / "bee").mkdir()
        (root / split / "ant").mkdir()


WITHOUT: dict[str, tuple[Callable[[Path], None], str]] = {
    "deeper": (
        into_a_deeper_folder,
        "class `cat` in {root}/train/cat (0 in train, 2 in val, 2 in test, 2 in folders below it)",
    ),
    "linked": (
        into_a_linked_folder,
        "class `cat` in {root}/train/cat (0 in train, 2 in val, 2 in test, 2 in folders below it)",
    ),
    "suffix": (with_another_suffix, "class `cat` in {root}/train/cat (0 in train, 2 in val, 2 in test)"),
    "empty": (
        an_empty_class,
        "class `ant` in {root}/train/ant (0 in train, 0 in val, 0 in test); classes without training images: 2",
    ),
}


@pytest.mark.parametrize("how", WITHOUT)
def test_a_class_without_training_images_is_an_error(how: str, folder: Path) -> None:
    change, message = WITHOUT[how]
    change(folder)
    with pytest.raises(DataError) as raised:
        imagefolder(root=folder, size=6)
    assert str(raised.value) == "no training images of " + message.format(root=folder)
    assert raised.value.hint == "images belong in root/{train,val,test}/<class>/"


@pytest.mark.parametrize(("split", "name"), [("val", "validation"), ("test", "test")])
def test_a_class_without_other_images_is_logged(
    split: str, name: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(folder / split / "dog")
    (folder / split / "dog").mkdir()
    dataset = imagefolder(root=folder, size=6)
    assert dataset.splits[name].labels.tolist() == [0, 0]
    expected = f"no {name} images of class `dog`: metrics of this split do not cover all classes"
    assert caplog.messages == [expected]
    imagefolder(root=folder, size=8)
    assert caplog.messages == [expected], "once per process"


def test_all_that_is_not_read_is_logged_in_one_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = imagefolder(root=folder, size=6).fingerprint
    assert caplog.messages == []
    for name in ("x.heic", "Thumbs.db", "a.avif", "b.txt"):
        (folder / "train" / "cat" / name).write_bytes(b"x")
    (folder / "train" / "list.csv").write_bytes(b"x")
    (folder / "test" / ".DS_Store").write_bytes(b"x")
    (folder / "test" / "dog" / "._0.png").write_bytes(b"x")
    (folder / "val" / "dog" / "empty").mkdir()
    (folder / "val" / "dog" / "more").mkdir()
    for number in range(3):
        Image.fromarray(picture(number)).save(folder / "val" / "dog" / "more" / f"{number}.PNG")
    os.mkfifo(folder / "val" / "cat" / "pipe.png")
    for size in (6, 8):
        assert imagefolder(root=folder, size=size).fingerprint == before
    assert caplog.messages == [
        f"{folder}: not read: files beside the class folders: 1 (train/list.csv);"
        " hidden files or folders: 2 (test/.DS_Store, test/dog/._0.png);"
        " files with another suffix: 5 (train/cat/Thumbs.db, train/cat/a.avif, train/cat/b.txt, …);"
        " folders below a class: 1 (val/dog/empty);"
        " images in folders below a class: 3 (val/dog/more, …)"
    ]


def test_a_command_shows_once_what_is_not_read(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").write_bytes(b"x")
    (tmp_path / "s.yaml").write_text(
        "name: s\n"
        f"dataset: {{imagefolder: {{root: {folder}, size: [8, 9]}}}}\n"
        "populations: [{members: 2, architecture: mlp, start: scratch, train: {epochs: 1}}]\n"
        "subsets: {sizes: [2], per_size: 1}\nmethods: [uniform_soup]\n"
    )
    done = subprocess.run([*SWEEP, "check", tmp_path / "s.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("files with another suffix: 1 (train/cat/notes.txt)") == 1


def test_names_that_are_no_utf8_are_read_and_can_be_shown(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "val", "test"):
        (folder / split / "dog").rename(folder / split / "d\udcf6g")
        for number in range(2):
            file = folder / split / "cat" / f"{number}.png"
            file.rename(file.with_name(f"caf\udce9 {number}.png"))
    (folder / "test" / "cat" / "f\udcfcr.txt").write_bytes(b"x")
    dataset = imagefolder(root=folder, size=6)
    assert dataset.classes == ("cat", "d\\udcf6g")
    assert ",".join(dataset.classes).encode() == b"cat,d\\udcf6g"
    for place, name in enumerate(SPLITS):
        images = dataset.splits[name].images
        assert np.array_equal(images[0], picture(10 * place).transpose(2, 0, 1))
    assert np.array_equal(pickle.loads(pickle.dumps(dataset)).splits["test"].images, images)
    (line,) = caplog.messages
    assert line.encode().endswith(b"files with another suffix: 1 (test/cat/f\\udcfcr.txt)")
    broken = folder / "test" / "d\udcf6g" / "\udce9.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"d\\udcf6g/\\udce9\.png"):
        imagefolder(root=folder, size=6).decode()
    broken.unlink()
    broken.symlink_to("nowhere")
    with pytest.raises(DataError, match=r"cannot read the image .*d\\udcf6g/\\udce9\.png: No such file"):
        imagefolder(root=folder, size=6)


def test_an_unknown_home_folder_is_an_error() -> None:
    with pytest.raises(PathError, match=r"~no-such-user/images"):
        imagefolder(root=Path("~no-such-user/images"))
