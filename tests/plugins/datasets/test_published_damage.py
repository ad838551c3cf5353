"""Published files that are damaged or would run something: refused, and told by name."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io

from sweep.core.dataset import DataError
from sweep.plugins.datasets.cifar10 import cifar10
from sweep.plugins.datasets.cifar100 import cifar100
from sweep.plugins.datasets.mnist import mnist
from sweep.plugins.datasets.svhn import svhn
from sweep.plugins.datasets.tiny_imagenet import tiny_imagenet
from tests.helpers.dataset_files import (
    old_pickle,
    pixels,
    write_cifar10,
    write_cifar100,
    write_mnist,
    write_svhn,
    write_tables,
    write_tiny,
)


def attacks(place: Path) -> dict[str, bytes]:
    """Pickles that would make a file at the place, or change the reader, if they were run."""
    run = f"touch {place}".encode()
    calls = {}
    for module, name in (("os", "system"), ("posix", "system"), ("subprocess", "getoutput")):
        calls[f"{module}.{name}"] = b"c%s\n%s\n(S'%s'\ntR." % (module.encode(), name.encode(), run)
    calls["eval"] = b"c__builtin__\neval\n(S'open(%r, \"w\")'\ntR." % str(place)
    calls["inside"] = b"(dS'data'\ncos\nsystem\n(S'%s'\ntRs." % run
    calls["numpy.load"] = b"cnumpy\nload\n(S'%s'\ntR." % str(place).encode()
    calls["dotted"] = b"cnumpy\ncore.multiarray._reconstruct\n."
    calls["reader"] = b"cnumpy\nndarray\n}(S'pixels'\nI1\nub."
    calls["persistent"] = b"S'x'\nQ."
    return calls


@pytest.mark.parametrize("attack", attacks(Path("x")))
@pytest.mark.parametrize("file", ["batches.meta", "data_batch_3", "test_batch"])
def test_a_batch_that_would_run_something_is_refused(attack: str, file: str, tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    victim = tmp_path / "cifar-10-batches-py" / file
    place = tmp_path / "it was run"
    victim.write_bytes(attacks(place)[attack])
    with pytest.raises(DataError) as raised:
        cifar10(root=tmp_path).decode()
    assert str(victim) in str(raised.value)
    assert not place.exists()
    write_cifar10(tmp_path / "again")
    cifar10(root=tmp_path / "again").decode()


def bad_batch(**changes: object) -> bytes:
    return old_pickle({"labels": [0, 1], "data": pixels(0, 2, 3072)} | changes)


BAD_BATCHES = {
    "nothing": b"",
    "text": b"no pickle",
    "half": bad_batch()[:3000],
    "a list": old_pickle([1, 2]),
    "no images": old_pickle({"labels": [0, 1]}),
    "no labels": old_pickle({"data": pixels(0, 2, 3072)}),
    "other labels": bad_batch(labels=[0, 1, 2]),
    "labels out of range": bad_batch(labels=[0, 10]),
    "negative labels": bad_batch(labels=[0, -1]),
    "uneven labels": bad_batch(labels=[[0], [0, 1]]),
    "huge labels": bad_batch(labels=[0, 2**70]),
    "labels of text": bad_batch(labels=["a", "b"]),
    "floats": bad_batch(data=pixels(0, 2, 3072).astype(np.float32)),
    "objects": bad_batch(data=np.array([None, None])),
    "another shape": bad_batch(data=pixels(0, 2, 3071)),
    "images as text": bad_batch(data="x" * 6144),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_damaged_batches_are_named_by_the_error(name: str, tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    victim = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    victim.write_bytes(BAD_BATCHES[name])
    with pytest.raises(DataError) as raised:
        cifar10(root=tmp_path)
    assert str(victim) in str(raised.value)


def test_the_meaning_of_labels_must_be_there(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-python" / "meta").write_bytes(old_pickle({"coarse_label_names": ["a"]}))
    with pytest.raises(DataError, match="meta: it holds no `fine_label_names`"):
        cifar100(root=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x1f\x8b",
        gzip.compress(b"1234567"),
        gzip.compress(struct.pack(">4i", 0x803, 100, 28, 28) + bytes(9)),
        gzip.compress(struct.pack(">4i", 0x801, 0, 28, 28)),
        gzip.compress(struct.pack(">4i", 0x803, 2, 2, 2) + bytes(8)),
        gzip.compress(bytes(80_000))[:50],
    ],
    ids=range(7),
)
def test_damaged_idx_files_are_named_by_the_error(content: bytes, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    victim = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    victim.write_bytes(content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz|^2 images for 100 labels in train$"):
        mnist(root=tmp_path).decode()


def bad_matlab(**variables: object) -> bytes:
    out = io.BytesIO()
    scipy.io.savemat(out, variables)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no matlab",
        bad_matlab(y=np.array([[1]])),
        bad_matlab(X=pixels(0, 32, 32, 3, 1)),
        bad_matlab(X=pixels(0, 32, 32, 1), y=np.array([[1]])),
        bad_matlab(X=pixels(0, 32, 32, 3, 1).astype(float), y=np.array([[1]])),
        bad_matlab(X=pixels(0, 32, 32, 3, 1), y=np.array([[11]])),
    ],
    ids=range(7),
)
def test_damaged_matlab_files_are_named_by_the_error(content: bytes, tmp_path: Path) -> None:
    write_svhn(tmp_path)
    (tmp_path / "test_32x32.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"test_32x32\.mat"):
        svhn(root=tmp_path).decode()


def test_damaged_folders_of_tiny_imagenet_are_an_error(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    folder = tmp_path / "tiny-imagenet-200"
    image = folder / "train" / "n01443537" / "images" / "n01443537_0.JPEG"
    whole = image.read_bytes()
    image.write_bytes(whole[:500])
    with pytest.raises(DataError, match=r"cannot read the image .*n01443537_0\.JPEG"):
        tiny_imagenet(root=tmp_path)
    image.write_bytes(whole)
    notes = folder / "val" / "val_annotations.txt"
    before = notes.read_text()
    for line in ("val_0.JPEG\tn0\t0\t0\t1\t1\n", "\n", "val_0.JPEG\n"):
        notes.write_text(before + line)
        with pytest.raises(DataError, match=r"val_annotations\.txt: `.*` names no class of wnids\.txt"):
            tiny_imagenet(root=tmp_path)
    notes.write_text(before)
    (folder / "val" / "images" / "val_1.JPEG").unlink()
    with pytest.raises(DataError, match=r"cannot read .*val_1\.JPEG"):
        tiny_imagenet(root=tmp_path)
    shutil.rmtree(folder / "train" / "n02056570")
    with pytest.raises(DataError, match=r"cannot read .*n02056570"):
        tiny_imagenet(root=tmp_path)


def test_damaged_tables_of_tiny_imagenet_are_an_error(tmp_path: Path) -> None:
    write_tables(tmp_path)
    valid = tmp_path / "data" / "valid-00000-of-00001.parquet"
    row = {"image": {"bytes": b"no picture", "path": "a.JPEG"}, "label": 0}
    pq.write_table(pa.Table.from_pylist([row]), valid)
    with pytest.raises(DataError, match=r"cannot read the image a\.JPEG in .*valid-"):
        tiny_imagenet(root=tmp_path)
    pq.write_table(pa.Table.from_pylist([row | {"label": 3}]), valid)
    with pytest.raises(DataError, match="labels from 3 to 3 for 3 classes"):
        tiny_imagenet(root=tmp_path)
    for label, message in (
        (-1, "labels from -1 to -1 for whole"),
        (10**15, "labels from 10{15} to 10{15} for 3 classes"),
    ):
        pq.write_table(pa.Table.from_pylist([row | {"label": label}]), valid)
        with pytest.raises(DataError, match=message):
            tiny_imagenet(root=tmp_path)
    for label in ("a", None, 0.5):
        pq.write_table(pa.Table.from_pylist([row | {"label": label}]), valid)
        with pytest.raises(DataError, match=r"cannot read the Parquet files in .*: 1 labels of"):
            tiny_imagenet(root=tmp_path)
    for content in (b"", b"PAR1"):
        valid.write_bytes(content)
        with pytest.raises(DataError, match="cannot read the Parquet files in"):
            tiny_imagenet(root=tmp_path)
    valid.unlink()
    with pytest.raises(DataError, match=r"no file .*valid-\*\.parquet"):
        tiny_imagenet(root=tmp_path)


def test_labels_of_tables_without_names_are_the_classes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    row = {"image": {"bytes": b"", "path": None}}
    for name, labels in (("train-0", [0, 1, 10**15]), ("valid-0", [0, 1])):
        table = pa.Table.from_pylist([row | {"label": label} for label in labels])
        pq.write_table(table.replace_schema_metadata({b"huggingface": b"{}"}), tmp_path / "data" / f"{name}.parquet")
    with pytest.raises(DataError, match=r"labels up to 10{15} for 5 images"):
        tiny_imagenet(root=tmp_path)
    for noted in (b"[]", b'{"info": 3}', b"no json"):
        pq.write_table(table.replace_schema_metadata({b"huggingface": noted}), tmp_path / "data" / "train-0.parquet")
        with pytest.raises(DataError, match="cannot read the Parquet files in"):
            tiny_imagenet(root=tmp_path)
