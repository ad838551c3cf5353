"""One's own arrays: every layout is read, unusable files are an error, and objects are never unpickled."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.core.dataset import SPLITS, DataError
from sweep.plugins.datasets.arrays import arrays
from tests.helpers.dataset_files import Array, numbers, pixels, rows


def test_all_layouts_of_arrays_hold_the_same(tmp_path: Path) -> None:
    images = pixels(0, 40, 3, 6, 6)
    labels = numbers(4, 10, 0)
    forms = {"first": images, "last": images.transpose(0, 2, 3, 1)}
    for name, form in forms.items():
        np.savez(tmp_path / f"{name}.npz", images=form, labels=labels[:, None].astype(np.uint8))
    first, last = (arrays(file=tmp_path / f"{name}.npz") for name in forms)
    for split in SPLITS:
        assert np.array_equal(first.splits[split].images, last.splits[split].images)
    assert rows(*(split.images for split in first.splits.values())) == rows(images)
    assert (first.mean, first.std, first.classes) == ((0.5,) * 3, (0.25,) * 3, ("0", "1", "2", "3"))
    grey = pixels(1, 40, 6, 6)
    for name, form in {"flat": grey, "one": grey[:, None], "one last": grey[..., None]}.items():
        np.savez(tmp_path / f"{name}.npz", images=form, labels=labels)
        dataset = arrays(file=tmp_path / f"{name}.npz", mean=(0.1,))
        assert dataset.mean == (0.1,)
        assert rows(*(split.images for split in dataset.splits.values())) == rows(grey[:, None])


def test_parts_of_arrays_are_kept_apart(tmp_path: Path) -> None:
    contents: dict[str, Array] = {}
    for number, part in enumerate(SPLITS):
        contents |= {f"{part}_images": pixels(number, 8, 5, 5), f"{part}_labels": numbers(2, 4, number)}
    np.savez(tmp_path / "own.npz", **contents)
    dataset = arrays(file=tmp_path / "own.npz", split=3)
    for part in SPLITS:
        assert np.array_equal(dataset.splits[part].images, contents[f"{part}_images"][:, None])
        assert np.array_equal(dataset.splits[part].labels, contents[f"{part}_labels"])


def test_arrays_of_the_same_size_have_other_fingerprints(tmp_path: Path) -> None:
    prints = set()
    for seed in range(3):
        np.savez(tmp_path / "own.npz", images=pixels(seed, 40, 6, 6), labels=numbers(4, 10, 0))
        prints.add(arrays(file=tmp_path / "own.npz").fingerprint)
    assert len(prints) == 3


IMAGES = pixels(0, 20, 4, 4)
LABELS = np.arange(20) % 2
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "holds nothing"),
    "no labels": ({"images": IMAGES}, "holds images$"),
    "only train": ({"train_images": IMAGES, "train_labels": LABELS}, "holds train_images, train_labels$"),
    "floats": ({"images": IMAGES / 255, "labels": LABELS}, "`images` is float64"),
    "float labels": ({"images": IMAGES, "labels": LABELS / 2}, r"labels of type float64 and shape \(20,\)"),
    "labels that are no numbers": ({"images": IMAGES, "labels": LABELS * np.nan}, "labels of type float64"),
    "text labels": ({"images": IMAGES, "labels": np.array(["a", "b"] * 10)}, "labels of type <U1"),
    "complex labels": ({"images": IMAGES, "labels": LABELS * 1j}, "labels of type complex128"),
    "truth values": ({"images": IMAGES, "labels": LABELS > 0}, "labels of type bool"),
    "one column per class": ({"images": IMAGES, "labels": np.eye(2, dtype=int)[LABELS]}, r"shape \(20, 2\)"),
    "one label": ({"images": IMAGES, "labels": np.array(1)}, r"labels of type int64 and shape \(\)"),
    "negative labels": ({"images": IMAGES, "labels": LABELS - 1}, "labels from -1 to 0 for whole numbers from 0"),
    "labels from 1": ({"images": IMAGES, "labels": LABELS + 1}, "no training images of class `0`"),
    "a gap": ({"images": IMAGES, "labels": LABELS * 3}, r"no training images of 2 classes \(`1`, `2`\)"),
    "huge labels": ({"images": IMAGES, "labels": LABELS * 10**15}, "labels up to 1000000000000000 for 20 images"),
    "too large labels": (
        {"images": IMAGES, "labels": np.full(20, 2**64 - 1, np.uint64)},
        "labels from 18446744073709551615",
    ),
    "a name too many": (
        {"images": IMAGES, "labels": LABELS, "classes": ["a", "b", "c"]},
        "no training images of class `c`",
    ),
    "a table of names": ({"images": IMAGES, "labels": LABELS, "classes": [["a", "b"]]}, "`classes` has 2 dimensions"),
    "16 bits": ({"images": IMAGES.astype(np.uint16), "labels": LABELS}, "`images` is uint16"),
    "floats that are no numbers": ({"images": IMAGES * np.nan, "labels": LABELS}, "`images` is float64"),
    "one class": ({"images": IMAGES, "labels": LABELS * 0}, "1 class: a classifier needs at least two"),
    "more labels": ({"images": IMAGES, "labels": np.arange(22) % 2}, "20 images for 22 labels"),
    "fewer labels": ({"images": IMAGES, "labels": LABELS[:18]}, "20 images for 18 labels"),
    "not square": ({"images": IMAGES[:, :3], "labels": LABELS}, r"images of shape \(3, 4\)"),
    "both ways": ({"images": pixels(0, 20, 3, 3, 3), "labels": LABELS}, r"images of shape \(3, 3, 3\)"),
    "17 channels": ({"images": pixels(0, 20, 17, 4, 4), "labels": LABELS}, r"images of shape \(17, 4, 4\)"),
    "a column": ({"images": IMAGES[:, 0], "labels": LABELS}, r"images of shape \(4,\)"),
    "numbers": ({"images": IMAGES[:, 0, 0], "labels": LABELS}, r"images of shape \(\)"),
    "one number": ({"images": IMAGES[0, 0, 0], "labels": LABELS}, r"images of shape \(\)"),
    "few names": ({"images": IMAGES, "labels": np.arange(20) % 3, "classes": np.array(["a", "b"])}, "0 to 2 for 2"),
    "two shapes": (
        {"train_images": IMAGES, "train_labels": LABELS, "test_images": pixels(0, 20, 5, 5), "test_labels": LABELS},
        r"images of shape \(4, 4\) and \(5, 5\)",
    ),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_cannot_be_used_are_an_error(name: str, tmp_path: Path) -> None:
    contents, message = BAD_ARRAYS[name]
    np.savez(tmp_path / "own.npz", **contents)
    with pytest.raises(DataError, match=message):
        arrays(file=tmp_path / "own.npz").decode()


def test_other_arrays_are_ignored_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.savez(
        tmp_path / "own.npz", images=IMAGES, labels=LABELS, notes=LABELS, val_images=IMAGES, classes=[b"a", b"\xe9"]
    )
    for _ in range(2):
        assert arrays(file=tmp_path / "own.npz").classes == ("a", "\\udce9")
    assert caplog.messages == [f"{tmp_path / 'own.npz'}: 2 arrays are ignored: notes, val_images"]


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    np.savez_compressed(file, images=IMAGES, labels=LABELS)
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        with suppress(DataError):
            arrays(file=file).decode()


class Runs:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


@pytest.mark.parametrize("name", ["images", "labels", "classes"])
def test_arrays_of_objects_are_refused_unread(name: str, tmp_path: Path) -> None:
    place = tmp_path / "it was run"
    objects = np.array([Runs(place)] * 20, dtype=object)
    contents = {"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "b"])} | {name: objects}
    np.savez(tmp_path / "own.npz", allow_pickle=True, **contents)
    with pytest.raises(DataError, match=name):
        arrays(file=tmp_path / "own.npz").decode()
    assert not place.exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_files_that_are_no_archive_are_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*own\.npz"):
        arrays(file=tmp_path / "own.npz")
    with pytest.raises(DataError, match=r"cannot read .*other\.npz"):
        arrays(file=tmp_path / "other.npz")


def test_too_many_means_are_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(DataError, match=r"^3 means for 1 channels$"):
        arrays(file=tmp_path / "own.npz", mean=(0.1, 0.2, 0.3))
