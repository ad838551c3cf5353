"""A fingerprint stands for content: equal for equal images and labels in any files, another for any other content."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io

from sweep.core.dataset import SPLITS
from tests.helpers import dataset_files
from tests.helpers.dataset_files import IN_FILES, MAKERS, Array, made, numbers, old_pickle, pixels
from tests.helpers.pictures import two_classes

Written = dict[str, Any]
FOREVER = 10**9


def keys(case: str, settings: Written) -> list[str]:
    """The fingerprint and the names of the decoded images in the cache."""
    dataset = made(case, settings)
    return [dataset.fingerprint, *(dataset.splits[name].key for name in SPLITS)]


def rename_in_order(folder: Path) -> None:
    """Give each file another name, in the same order."""
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(file.with_name(f"{number:05d} \udce9{file.suffix}"))


def rename_images(settings: Written) -> Written:
    for folder in settings["root"].glob("*/*"):
        rename_in_order(folder)
    return settings


def link_classes(settings: Written) -> Written:
    """Class folders that are links, and images that are links."""
    root = settings["root"]
    for number, folder in enumerate(sorted(root.glob("*/*"))):
        moved = root.parent / f"elsewhere {number}"
        folder.rename(moved)
        if number:
            folder.symlink_to(moved)
        else:
            folder.mkdir()
            for file in moved.iterdir():
                (folder / file.name).symlink_to(file)
    return settings


def add_stray_files(settings: Written) -> Written:
    root = settings["root"]
    (root / "README.txt").write_text("mine")
    for folder in [root / "train", *root.glob("*/*")]:
        for name in (".DS_Store", "Thumbs.db", "list.json", "._0.png"):
            (folder / name).write_bytes(b"x")
        (folder / ".cache").mkdir()
    return settings


def move(settings: Written) -> Written:
    moved = settings["root"].with_name("moved")
    settings["root"].rename(moved)
    return settings | {"root": moved}


def unpack(settings: Written) -> Written:
    for file in settings["root"].rglob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    return settings


def write_batches_otherwise(settings: Written) -> Written:
    """Add what a batch holds beside images and labels."""
    from sweep.plugins.datasets._cifar import _batch

    for file in settings["root"].glob("*/*"):
        content = _batch(file)
        data = {"data": content["data"].pixels} if "data" in content else {}
        file.write_bytes(old_pickle({"note": "again"} | content | data))
    return settings


def write_matlab_otherwise(settings: Written) -> Written:
    for file in settings["root"].glob("*.mat"):
        content = scipy.io.loadmat(file)
        scipy.io.savemat(file, {"note": "again", "y": content["y"], "X": content["X"]}, do_compression=False)
    return settings


def write_archive_otherwise(settings: Written) -> Written:
    """Another name, compression, order of axes, further arrays."""
    with np.load(settings["file"]) as archive:
        content = {name: archive[name] for name in archive.files}
    for name, array in content.items():
        if name == "images":
            content[name] = array.transpose(0, 3, 1, 2)
        elif name.endswith("images"):
            content[name] = array[:, 0]
        elif name.endswith("labels"):
            content[name] = array.astype(np.int16)[:, None]
    file = settings["file"].with_name("again.npz")
    np.savez_compressed(file, notes=np.arange(3), **content)
    return settings | {"file": file}


def rename_tiny(settings: Written) -> Written:
    folder = settings["root"] / "tiny-imagenet-200"
    for images in folder.glob("train/*/images"):
        rename_in_order(images)
        (images / "more_boxes.txt").write_text("0")
    notes = folder / "val" / "val_annotations.txt"
    for file in (folder / "val" / "images").iterdir():
        file.rename(file.with_name(f"again_{file.name}"))
    notes.write_text("".join(f"again_{line}" for line in notes.read_text().splitlines(keepends=True)))
    return settings


def cut_tables_otherwise(settings: Written) -> Written:
    folder = settings["root"] / "data"
    files = sorted(folder.glob("train-*"))
    whole = pa.concat_tables([pq.read_table(file) for file in files])
    for file in files:
        file.unlink()
    for number, start in enumerate(range(0, len(whole), 7)):
        pq.write_table(whole.slice(start, 7), folder / f"train-{number:03d}.parquet", compression="zstd")
    return settings


IDX = {"unpacked": unpack, "moved": move}
BATCHES = {"other entries": write_batches_otherwise, "moved": move}
SAME: dict[str, dict[str, Callable[[Written], Written]]] = {
    "arrays": {"another archive": write_archive_otherwise},
    "arrays in parts": {"another archive": write_archive_otherwise},
    "cifar10": BATCHES,
    "cifar100": BATCHES,
    "fashion_mnist": IDX,
    "imagefolder": {
        "other names": rename_images,
        "links": link_classes,
        "stray files": add_stray_files,
        "moved": move,
    },
    "mnist": IDX,
    "svhn": {"another file": write_matlab_otherwise, "moved": move},
    "tiny_imagenet": {"other names": rename_tiny, "moved": move},
    "tiny_imagenet in tables": {"other files": cut_tables_otherwise, "moved": move},
}


@pytest.mark.parametrize(("case", "how"), [(case, how) for case, ways in SAME.items() for how in ways])
def test_equal_content_has_one_fingerprint(case: str, how: str, tmp_path: Path) -> None:
    settings = MAKERS[case][1](tmp_path / "files")
    before = keys(case, settings)
    dataset = made(case, settings)
    dataset.decode()
    changed = SAME[case][how](settings)
    assert keys(case, changed) == before
    again = made(case, changed)
    for name in SPLITS:
        assert np.array_equal(again.splits[name].images, dataset.splits[name].images)
        assert np.array_equal(again.splits[name].labels, dataset.splits[name].labels)


def test_every_data_set_in_files_is_written_in_another_way() -> None:
    assert set(SAME) == set(IN_FILES)


def change_pixel(seed: int, *shape: int) -> Array:
    """As `pixels`, with one pixel changed in one of the arrays or images."""
    values = pixels(seed, *shape)
    if seed in (0, 100):
        values.flat[0] ^= 128
    return values


def swap_images(seed: int, *shape: int) -> Array:
    """As `pixels`, with two images of one array or two encoded images swapped."""
    if len(shape) == 3 and seed in (0, 1):
        return pixels(1 - seed, *shape)
    values = pixels(seed, *shape)
    axis = 3 if shape[:3] == (32, 32, 3) else 0
    return np.roll(values, 1, axis) if seed == 0 else values


def swap_labels(classes: int, each: int, seed: int) -> Array:
    return np.roll(numbers(classes, each, seed), 1) if seed == 0 else numbers(classes, each, seed)


CHANGES = {"a pixel": ("pixels", change_pixel), "order": ("pixels", swap_images), "labels": ("numbers", swap_labels)}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("case", IN_FILES)
def test_other_content_of_the_same_size_has_another_fingerprint(
    case: str, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "labels" and case.startswith(("imagefolder", "tiny_imagenet")):
        change = "order"  # folders and their tables have no file of labels
    before = keys(case, MAKERS[case][1](tmp_path / "before"))
    monkeypatch.setattr(dataset_files, *CHANGES[change])
    after = keys(case, MAKERS[case][1](tmp_path / "after"))
    assert after[0] != before[0]
    assert not set(after) & set(before), "decoded images of other content are other files of the cache"


@pytest.mark.parametrize("case", IN_FILES)
def test_files_that_changed_in_place_have_another_fingerprint_though_digests_are_kept(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path / "cache"))
    settings = MAKERS[case][1](tmp_path / "files")
    for file in (tmp_path / "files").rglob("*"):
        os.utime(file, (FOREVER, FOREVER))
    before = keys(case, settings)
    assert keys(case, settings) == before
    (tmp_path / "files").rename(tmp_path / "old")
    monkeypatch.setattr(dataset_files, "pixels", change_pixel)
    MAKERS[case][1](tmp_path / "files")
    for file in (tmp_path / "files").rglob("*"):
        os.utime(file, (FOREVER, FOREVER))
    assert keys(case, settings)[0] != before[0]


def test_class_names_are_content(tmp_path: Path) -> None:
    settings = {"root": two_classes(tmp_path / "files"), "size": 6}
    before = keys("imagefolder", settings)
    for split in ("train", "val", "test"):
        (tmp_path / "files" / split / "dog").rename(tmp_path / "files" / split / "eel")
    assert keys("imagefolder", settings)[0] != before[0]


def test_moving_an_image_to_the_next_class_changes_the_fingerprint(tmp_path: Path) -> None:
    root = two_classes(tmp_path / "files")
    settings = {"root": root, "size": 6}
    before = keys("imagefolder", settings)
    (root / "train" / "cat" / "1.png").rename(root / "train" / "dog" / "0 first.png")
    assert keys("imagefolder", settings)[0] != before[0], "the images and their order are the same, the counts not"


def test_both_forms_of_tiny_imagenet_have_equal_digests_of_images(tmp_path: Path) -> None:
    from sweep.plugins.datasets.tiny_imagenet import _folders, _tables

    folders = _folders(MAKERS["tiny_imagenet"][1](tmp_path / "a")["root"] / "tiny-imagenet-200", 64).digests
    tables = _tables(MAKERS["tiny_imagenet in tables"][1](tmp_path / "b")["root"] / "data", 64).digests
    for part in ("train", "test"):
        assert "\n".join(folders[part]) == "\n".join(tables[part])


@pytest.mark.parametrize("case", sorted(set(MAKERS) - set(IN_FILES)))
def test_data_without_files_has_no_fingerprint(case: str, tmp_path: Path) -> None:
    assert made(case, MAKERS[case][1](tmp_path)).fingerprint == ""
