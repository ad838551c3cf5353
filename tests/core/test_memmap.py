"""Decoded images on the disc: made once by processes that race, read where they lie, and told where they cannot be."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sweep.core.dataset import DataError, Dataset, Split
from sweep.core.errors import UserError
from sweep.core.memmap import cache_folder
from sweep.plugins.datasets.cifar10 import cifar10
from sweep.plugins.datasets.synthetic import synthetic
from tests.helpers.dataset_files import EACH, write_cifar10


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


READER = """
import os, signal, sys, time
import numpy as np
from sweep.core.dataset import Split

def decode():
    yield np.full((2, 1, 4, 4), 7, dtype=np.uint8)
    with open(sys.argv[1], "a") as log:
        log.write("second piece\\n")
    time.sleep(0.2)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    yield np.full((1, 1, 4, 4), 9, dtype=np.uint8)

images = Split(np.zeros(3, dtype=np.int64), decode, key="k", bound=0).images
assert isinstance(images, np.memmap)
print(images.sum())
"""


def reader(log: Path, how: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", READER, str(log), how], stdout=pipe, stderr=pipe, text=True)


def test_processes_that_race_decode_once_and_read_the_same(cache: Path, tmp_path: Path) -> None:
    racing = [reader(tmp_path / "log", "live") for _ in range(5)]
    message = [process.communicate(timeout=60) for process in racing]
    assert message == [(f"{16 * (7 + 7 + 9)}\n", "")] * 5
    assert (tmp_path / "log").read_text() == "second piece\n"
    assert sorted(file.suffix for file in cache.iterdir()) == [".lock", ".npy"]


def test_a_writer_that_was_killed_leaves_nothing_that_is_read(cache: Path, tmp_path: Path) -> None:
    killed = reader(tmp_path / "log", "die")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(file.suffix for file in cache.iterdir()) == [".lock", ".part"]
    assert reader(tmp_path / "log", "live").communicate(timeout=60) == (f"{16 * 23}\n", "")
    assert sorted(file.suffix for file in cache.iterdir()) == [".lock", ".npy"]


def large() -> Dataset:
    dataset = synthetic(examples=2000, size=16)
    for split in dataset.splits.values():
        split.bound = 500_000
    return dataset


def test_only_splits_beyond_the_bound_are_mapped(cache: Path) -> None:
    splits = large().splits
    assert isinstance(splits["train"].images, np.memmap)
    assert not isinstance(splits["test"].images, np.memmap)
    assert [split.file is None for split in splits.values()] == [False, True, True]
    assert len(list(cache.glob("*.npy"))) == 1
    with pytest.raises(ValueError, match="read-only"):
        splits["train"].images[0] = 0


def test_a_mapped_split_is_shipped_without_its_images(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = large().splits["train"]
    shipped = pickle.dumps(split)
    assert len(shipped) < split.images.nbytes / 50
    here = pickle.loads(shipped)
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(cache.parent / "of another node"))
    other = pickle.loads(shipped)
    assert np.array_equal(other.images, split.images)
    assert other.file == split.file, "a path that is there is used, whatever the variable says"
    shutil.rmtree(cache)
    elsewhere = pickle.loads(shipped)
    assert np.array_equal(elsewhere.images, split.images)
    assert elsewhere.file is not None
    assert elsewhere.file.parent.name == "of another node"
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(cache))
    assert np.array_equal(here.images, elsewhere.images)


def test_other_content_and_settings_are_other_files(cache: Path, tmp_path: Path) -> None:
    made_from = [write_cifar10(tmp_path / "a"), write_cifar10(tmp_path / "b"), write_cifar10(tmp_path / "c", 2 * EACH)]
    for settings in (*made_from, made_from[0] | {"size": 8}):
        split = cifar10(**settings).splits["train"]
        split.bound = 0
        assert len(split.images) == len(split)
    assert len(list(cache.glob("*.npy"))) == 3


def test_the_folder_of_decoded_images_may_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    for name in ("MERGE_SWEEP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path("/h/.cache/merge-sweep")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/merge-sweep")
    monkeypatch.setenv("MERGE_SWEEP_CACHE", "/own")
    assert cache_folder() == Path("/own")


def test_without_a_home_only_large_splits_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MERGE_SWEEP_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", str)  # as for a user id that the system does not list
    assert len(synthetic(examples=100).splits["train"].images) == 100
    with pytest.raises(UserError, match="this user has no home folder") as raised:
        _ = large().splits["train"].images
    assert raised.value.hint == "set MERGE_SWEEP_CACHE to a folder that you may write to"


def test_a_cache_that_cannot_be_used_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot keep decoded images in .*file/cache") as raised:
        _ = large().splits["train"].images
    assert raised.value.hint == "MERGE_SWEEP_CACHE names another folder"
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path / "cache"))
    file = large().splits["train"]
    _ = file.images
    assert file.file is not None
    file.file.write_bytes(file.file.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot read decoded images from") as raised:
        _ = large().splits["train"].images
    assert raised.value.hint == "remove it: it is made again"


@pytest.mark.parametrize("bound", [0, 10**6])
@pytest.mark.parametrize("counts", [(2, 2), (1,), (), (4,), (3, 1)], ids=str)
def test_pieces_must_hold_an_image_per_label(counts: tuple[int, ...], bound: int, cache: Path) -> None:
    pieces = [np.zeros((count, 1, 2, 2), dtype=np.uint8) for count in counts]
    split = Split(np.zeros(3, dtype=np.int64), lambda: iter(pieces), key="k", bound=bound)
    with pytest.raises(DataError, match=rf"^{sum(counts)} images for 3 labels$"):
        _ = split.images
    assert not list(cache.glob("*.npy"))
