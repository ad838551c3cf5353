"""Published data sets and one's own arrays as tiny files in their real formats, and how they are asked for."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from sweep.core.dataset import Dataset
from sweep.core.registry import get_plugin

Array = NDArray[Any]
# images per class in what is trained and tested with
EACH = 10
TESTED = 2


def pixels(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def numbers(classes: int, each: int, seed: int) -> Array:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), each))


class OldPickler(pickle._Pickler):
    """Writes texts and bytes as Python 2 did, and the names that numpy had then."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_old(self, value: str | bytes) -> None:
        content = value.encode("latin-1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[str] = save_old
    dispatch[bytes] = save_old


def old_pickle(value: object) -> bytes:
    out = io.BytesIO()
    OldPickler(out, protocol=2).dump(value)
    return out.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_cifar10(root: Path, each: int = EACH) -> dict[str, Any]:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        labels = numbers(10, each // 5 if number < 5 else TESTED, number).tolist()
        batch = {"batch_label": name, "labels": labels, "data": pixels(number, len(labels), 3072)}
        (folder / name).write_bytes(old_pickle(batch | {"filenames": [f"{n}.png" for n in range(len(labels))]}))
    words = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(
        old_pickle({"num_cases_per_batch": 20, "label_names": words, "num_vis": 3072})
    )
    return {"root": root}


def write_cifar100(root: Path, each: int = EACH) -> dict[str, Any]:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for number, (name, count) in enumerate((("train", each), ("test", TESTED))):
        labels = numbers(100, count, number)
        batch = {"fine_labels": labels.tolist(), "coarse_labels": (labels // 5).tolist()}
        (folder / name).write_bytes(old_pickle(batch | {"data": pixels(number, len(labels), 3072)}))
    (folder / "meta").write_bytes(old_pickle({"fine_label_names": [f"class {n}" for n in range(100)]}))
    return {"root": root}


def write_idx(file: Path, array: Array) -> None:
    head = struct.pack(f">{array.ndim + 1}i", 0x800 + array.ndim, *array.shape)
    with gzip.GzipFile(file.with_name(file.name + ".gz"), "wb", mtime=0) as out:
        out.write(head + array.astype(np.uint8).tobytes())


def write_mnist(root: Path, each: int = EACH, folder: str = "MNIST") -> dict[str, Any]:
    place = root / folder / "raw"
    place.mkdir(parents=True)
    for number, (name, count) in enumerate((("train", each), ("t10k", TESTED))):
        labels = numbers(10, count, number)
        write_idx(place / f"{name}-images-idx3-ubyte", pixels(number, len(labels), 28, 28))
        write_idx(place / f"{name}-labels-idx1-ubyte", labels)
    return {"root": root}


def write_fashion(root: Path, each: int = EACH) -> dict[str, Any]:
    return write_mnist(root, each, "FashionMNIST")


def write_svhn(root: Path, each: int = EACH) -> dict[str, Any]:
    root.mkdir(parents=True, exist_ok=True)
    for number, (name, count) in enumerate((("train", each), ("test", TESTED))):
        labels = numbers(10, count, number) + 1  # 10 stands for the digit 0
        images = pixels(number, 32, 32, 3, len(labels))
        content = {"X": images, "y": labels[:, None].astype(np.uint8)}
        scipy.io.savemat(root / f"{name}_32x32.mat", content, do_compression=True)
    return {"root": root}


WORDS = {
    "n01443537": "goldfish, Carassius auratus",
    "n01629819": "European fire salamander",
    "n02056570": "king penguin",
}


def jpeg(seed: int, size: int = 64, grey: bool = False) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(seed, *((size, size) if grey else (size, size, 3)))).save(out, "JPEG")
    return out.getvalue()


def write_tiny(root: Path, each: int = EACH) -> dict[str, Any]:
    """The folders of the zip: ids in no order, boxes beside the images, a test without labels."""
    folder = root / "tiny-imagenet-200"
    for label, name in enumerate(WORDS):
        (folder / "train" / name / "images").mkdir(parents=True)
        (folder / "train" / name / f"{name}_boxes.txt").write_text("0\t0\t0\t1\t1\n")
        for number in range(each):
            content = jpeg(100 * label + number, grey=number == 3)
            (folder / "train" / name / "images" / f"{name}_{number}.JPEG").write_bytes(content)
    (folder / "val" / "images").mkdir(parents=True)
    lines = []
    for number in range(TESTED * 3):
        (folder / "val" / "images" / f"val_{number}.JPEG").write_bytes(jpeg(1000 + number))
        lines.append(f"val_{number}.JPEG\t{list(WORDS)[number % 3]}\t0\t0\t62\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    (folder / "wnids.txt").write_text("".join(f"{name}\n" for name in reversed(WORDS)))
    (folder / "words.txt").write_text("".join(f"{name}\t{word}\n" for name, word in WORDS.items()))
    return {"root": root}


def write_tables(root: Path, each: int = EACH) -> dict[str, Any]:
    """The same images as the hub keeps them, those to train with in two files."""
    (root / "data").mkdir(parents=True)
    trained = [(jpeg(100 * label + n, grey=n == 3), label) for label in range(3) for n in range(each)]
    tested = [(jpeg(1000 + n), n % 3) for n in range(TESTED * 3)]
    label = {"names": list(WORDS), "_type": "ClassLabel"}
    noted = {b"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": label}}}).encode()}
    kind = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
    files = {
        "train-00000-of-00002-a": trained[:11],
        "train-00001-of-00002-b": trained[11:],
        "valid-00000-of-00001": tested,
    }
    for name, pairs in files.items():
        rows = [{"image": {"bytes": image, "path": None}, "label": number} for image, number in pairs]
        pq.write_table(pa.Table.from_pylist(rows, kind.with_metadata(noted)), root / "data" / f"{name}.parquet")
    return {"root": root}


def write_arrays(root: Path, each: int = EACH) -> dict[str, Any]:
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / "own.npz", images=pixels(0, 4 * each, 6, 6, 3), labels=numbers(4, each, 0))
    return {"file": root / "own.npz"}


def write_parts(root: Path, each: int = EACH) -> dict[str, Any]:
    root.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Array] = {"classes": np.array(["one", "two"])}
    for number, (part, count) in enumerate((("train", each), ("test", TESTED))):
        contents |= {f"{part}_images": pixels(number, 2 * count, 1, 5, 5), f"{part}_labels": numbers(2, count, number)}
    np.savez_compressed(root / "parts.npz", **contents)
    return {"file": root / "parts.npz"}


def write_folder(root: Path, each: int = EACH) -> dict[str, Any]:
    for part, split in enumerate(("train", "val", "test")):
        for label in range(2):
            (root / split / f"class {label}").mkdir(parents=True)
            for number in range(each):
                image = Image.fromarray(pixels(100 * part + 10 * label + number, 6, 6, 3))
                image.save(root / split / f"class {label}" / f"{number}.png")
    return {"root": root, "size": 6}


def nothing(_: Path, each: int = EACH) -> dict[str, Any]:
    return {"examples": 10 * each} if each != EACH else {}


MAKERS: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "arrays": ("arrays", write_arrays),
    "arrays in parts": ("arrays", write_parts),
    "cifar10": ("cifar10", write_cifar10),
    "cifar100": ("cifar100", write_cifar100),
    "digits": ("digits", nothing),
    "fashion_mnist": ("fashion_mnist", write_fashion),
    "imagefolder": ("imagefolder", write_folder),
    "mnist": ("mnist", write_mnist),
    "svhn": ("svhn", write_svhn),
    "synthetic": ("synthetic", nothing),
    "tiny_imagenet": ("tiny_imagenet", write_tiny),
    "tiny_imagenet in tables": ("tiny_imagenet", write_tables),
}
EVERY = pytest.mark.parametrize("case", MAKERS)
SPLIT_HERE = [
    case for case, (name, _) in MAKERS.items() if "split" in get_plugin("datasets", name).settings.model_fields
]
IN_FILES = [case for case, (_, make) in MAKERS.items() if make is not nothing]


def made(case: str, settings: dict[str, Any]) -> Dataset:
    """By way of the registry, as a configuration does."""
    entry = get_plugin("datasets", MAKERS[case][0])
    dataset = entry.function(**entry.validate(settings))
    assert isinstance(dataset, Dataset)
    return dataset


def rows(*splits: Array) -> list[bytes]:
    return sorted(image.tobytes() for split in splits for image in split)
