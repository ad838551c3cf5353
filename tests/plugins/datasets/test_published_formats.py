"""Published data sets in their real formats; torchvision's readers are the oracle."""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchvision
from PIL import Image

from sweep.cli.fetch import published_files
from sweep.core.dataset import DataError, stratified_split
from sweep.core.registry import get_plugin
from sweep.plugins.datasets._pictures import PIECE
from sweep.plugins.datasets.tiny_imagenet import tiny_imagenet
from tests.helpers.dataset_files import MAKERS, Array, made


def checksum(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def read_by_torchvision(name: str, root: Path, train: bool) -> tuple[Array, Array]:
    """Images (examples, channels, side, side) and labels, read by torchvision with the checksums of the tiny files."""
    if name in ("mnist", "fashion_mnist"):
        kind = torchvision.datasets.MNIST if name == "mnist" else torchvision.datasets.FashionMNIST
        for file in (root / kind.__name__ / "raw").glob("*.gz"):
            file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        found = kind(root, train=train)
        return found.data.numpy()[:, None], found.targets.numpy()
    if name == "svhn":
        part = "train" if train else "test"
        kind = type(
            "Tiny",
            (torchvision.datasets.SVHN,),
            {"split_list": {part: ["", f"{part}_32x32.mat", checksum(root / f"{part}_32x32.mat")]}},
        )
        found = kind(root, split=part)
        return found.data, found.labels
    parent = torchvision.datasets.CIFAR10 if name == "cifar10" else torchvision.datasets.CIFAR100
    place = root / parent.base_folder
    lists = {
        key: [[file, checksum(place / file)] for file, _ in getattr(parent, key)] for key in ("train_list", "test_list")
    }
    meta = parent.meta | {"md5": checksum(place / parent.meta["filename"])}
    found = type("Tiny", (parent,), lists | {"meta": meta})(root, train=train)
    return found.data.transpose(0, 3, 1, 2), np.array(found.targets)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist", "svhn"])
def test_published_files_are_read_as_torchvision_reads_them(name: str, tmp_path: Path) -> None:
    splits = made(name, MAKERS[name][1](tmp_path)).splits
    packed = made(name, {"root": tmp_path}).fingerprint
    images, labels = read_by_torchvision(name, tmp_path, train=False)
    assert np.array_equal(splits["test"].images, images)
    assert np.array_equal(splits["test"].labels, labels)
    images, labels = read_by_torchvision(name, tmp_path, train=True)
    validation, train = stratified_split(labels, (0.1,), 0)
    for part, indices in (("train", train), ("validation", validation)):
        assert np.array_equal(splits[part].images, images[indices])
        assert np.array_equal(splits[part].labels, labels[indices])
    unpacked = made(name, {"root": tmp_path})
    assert unpacked.fingerprint == packed, "unpacking makes no other data set"
    assert np.array_equal(unpacked.splits["train"].images, splits["train"].images)


@pytest.mark.parametrize("name", sorted(published_files()))
def test_missing_files_are_an_error_that_names_the_command(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)) as raised:
        get_plugin("datasets", name).function(root=tmp_path)
    assert raised.value.hint == f"sweep fetch {name} --root {tmp_path}"


def test_more_rows_than_a_batch_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    count = PIECE + 300
    encoded = []
    for number in range(count):
        out = io.BytesIO()
        Image.fromarray(np.full((2, 2, 3), (number % 256, number // 256, 7), dtype=np.uint8)).save(out, "PNG")
        encoded.append({"image": {"bytes": out.getvalue(), "path": f"{number}.png"}, "label": number % 2})
    for name in ("train-0", "valid-0"):
        pq.write_table(pa.Table.from_pylist(encoded), tmp_path / "data" / f"{name}.parquet", row_group_size=500)
    dataset = tiny_imagenet(root=tmp_path, size=2)
    assert dataset.classes == ("0", "1")
    for name, split in dataset.splits.items():
        found = split.images[:, 0, 0, 0].astype(int) + 256 * split.images[:, 1, 0, 0].astype(int)
        assert found.tolist() == sorted(found.tolist()), name
        assert np.array_equal(found % 2, split.labels)
    assert len(dataset.splits["test"]) == count
