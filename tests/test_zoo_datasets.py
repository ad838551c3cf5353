"""Published data sets and one's own arrays, in their real formats; torchvision's readers are the oracle."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import torchvision
from numpy.typing import NDArray
from PIL import Image

from sweep.data import SPLITS, DataError, Dataset, Split, stratified_split, unsuitable
from sweep.datasets._pictures import PIECE
from sweep.datasets.arrays import arrays
from sweep.datasets.cifar10 import cifar10
from sweep.datasets.cifar100 import cifar100
from sweep.datasets.mnist import mnist
from sweep.datasets.svhn import svhn
from sweep.datasets.synthetic import synthetic
from sweep.datasets.tiny_imagenet import tiny_imagenet
from sweep.facts import published
from sweep.fetch import PUBLISHED
from sweep.grid import Choice
from sweep.mapped import cache_folder
from sweep.registry import find, names

Array = NDArray[Any]
EACH, TESTED = 10, 2  # images per class in what is trained and tested with


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

    dispatch[str] = dispatch[bytes] = save_old


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
SPLIT_HERE = [case for case, (name, _) in MAKERS.items() if "split" in find("datasets", name).settings.model_fields]
IN_FILES = [case for case, (_, make) in MAKERS.items() if make is not nothing]


def made(case: str, settings: dict[str, Any]) -> Dataset:
    """By way of the registry, as a configuration does."""
    entry = find("datasets", MAKERS[case][0])
    dataset = entry.function(**entry.check(settings))
    assert isinstance(dataset, Dataset)
    return dataset


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Case -> settings of a data set whose files are there."""
    return {case: make(tmp_path_factory.mktemp("made") / "files") for case, (_, make) in MAKERS.items()}


def rows(*splits: Array) -> list[bytes]:
    return sorted(image.tobytes() for split in splits for image in split)


def test_every_data_set_is_made_from_tiny_files_here() -> None:
    assert {name for name, _ in MAKERS.values()} == set(names("datasets"))


@EVERY
def test_images_and_labels_are_what_the_rest_counts_on(case: str, written: dict[str, Any]) -> None:
    dataset = made(case, written[case])
    assert set(dataset.splits) == set(SPLITS)
    assert len(dataset.mean) == len(dataset.std) == dataset.channels
    for split in dataset.splits.values():
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        assert split.images.flags.c_contiguous
        assert split.images.shape == (len(split), dataset.channels, dataset.size, dataset.size)
        assert np.unique(split.labels).tolist() == list(range(len(dataset.classes))), "every class in every split"


@pytest.mark.parametrize("case", [case for case in MAKERS if case != "digits"])  # of which a few are equal
def test_splits_share_nothing(case: str, written: dict[str, Any]) -> None:
    splits = made(case, written[case]).splits.values()
    everything = rows(*(split.images for split in splits))
    assert len(set(everything)) == len(everything) == sum(map(len, splits))


@EVERY
def test_the_order_is_the_same_every_time(case: str, written: dict[str, Any]) -> None:
    one, other = (made(case, written[case]) for _ in range(2))
    assert one.fingerprint == other.fingerprint
    for name in SPLITS:
        assert np.array_equal(one.splits[name].labels, other.splits[name].labels)
        assert np.array_equal(one.splits[name].images, other.splits[name].images)


@pytest.mark.parametrize("case", SPLIT_HERE)
def test_the_seed_moves_examples_between_train_and_validation_only(case: str, written: dict[str, Any]) -> None:
    one, other = (made(case, written[case] | {"split": seed}).splits for seed in (0, 1))
    assert np.array_equal(one["test"].images, other["test"].images)
    assert np.array_equal(one["test"].labels, other["test"].labels)
    assert rows(one["validation"].images) != rows(other["validation"].images)
    shared = [rows(splits["train"].images, splits["validation"].images) for splits in (one, other)]
    assert shared[0] == shared[1]
    assert one["test"].key == other["test"].key, "the test is decoded once, whatever the split"
    assert one["train"].key != other["train"].key


@EVERY
def test_a_pickled_data_set_is_the_same_arrays(case: str, written: dict[str, Any]) -> None:
    dataset = made(case, written[case])
    other = pickle.loads(pickle.dumps(dataset))
    for name in SPLITS:
        assert np.array_equal(other.splits[name].images, dataset.splits[name].images)
        assert np.array_equal(other.splits[name].labels, dataset.splits[name].labels)
    told = [(each.classes, each.fingerprint, each.augmentation) for each in (dataset, other)]
    assert told[0] == told[1]


@pytest.mark.parametrize("case", IN_FILES)
def test_the_fingerprint_tells_content_from_place(case: str, written: dict[str, Any], tmp_path: Path) -> None:
    before = made(case, written[case]).fingerprint
    assert len(before) == 32
    make = MAKERS[case][1]
    assert made(case, make(tmp_path / "copy")).fingerprint == before
    assert made(case, make(tmp_path / "more", each=2 * EACH)).fingerprint != before


@EVERY
def test_a_mapped_split_holds_the_same_images(
    case: str, written: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path))
    plain, mapped = (made(case, written[case]).splits for _ in range(2))
    for name in SPLITS:
        mapped[name].bound = 0
        assert np.array_equal(mapped[name].images, plain[name].images)
        assert (mapped[name].file is None) == (case == "digits"), "all but the small digits have a key"
        if case != "digits":
            assert isinstance(mapped[name].images, np.memmap)
    assert len(list(tmp_path.glob("*.npy"))) == (0 if case == "digits" else 3)


@EVERY
def test_images_take_the_size_that_is_asked_for(case: str, written: dict[str, Any]) -> None:
    small, native = (made(case, written[case] | more) for more in ({"size": 9}, {}))
    assert small.size == 9
    for name in SPLITS:
        assert small.splits[name].images.shape[1:] == (small.channels, 9, 9)
        assert np.array_equal(small.splits[name].labels, native.splits[name].labels)


def test_what_must_not_be_mirrored_says_so(written: dict[str, Any]) -> None:
    upright = {case for case in MAKERS if "flip" not in made(case, written[case]).augmentation}
    assert upright == {"digits", "mnist", "svhn", "synthetic"}
    dataset = made("mnist", written["mnist"])
    told = [
        ("flip", "`flip` changes what the images of this data set show", "what leaves their class as it is: `crop`")
    ]
    assert unsuitable(dataset, {"crop": 2, "flip": True}) == told
    assert unsuitable(dataset, {"crop": 2, "flip": False}) == []
    assert unsuitable(made("cifar10", written["cifar10"]), {"crop": 4, "flip": True}) == []


@EVERY
def test_what_is_stated_of_a_data_set_is_true_of_it(case: str, written: dict[str, Any]) -> None:
    entry, dataset = find("datasets", MAKERS[case][0]), made(case, written[case])
    assert unsuitable(dataset, entry.stated("RECIPE") or {}) == []
    about = published(Choice("datasets", entry.name, entry.check(written[case])))
    if about:
        assert about.shape[1:] == (dataset.channels, dataset.size)
        assert about.examples.keys() == dataset.splits.keys()


def checksum(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def told_by_torchvision(name: str, root: Path, train: bool) -> tuple[Array, Array]:
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
    images, labels = told_by_torchvision(name, tmp_path, train=False)
    assert np.array_equal(splits["test"].images, images)
    assert np.array_equal(splits["test"].labels, labels)
    images, labels = told_by_torchvision(name, tmp_path, train=True)
    held, kept = stratified_split(labels, (0.1,), 0)
    for part, indices in (("train", kept), ("validation", held)):
        assert np.array_equal(splits[part].images, images[indices])
        assert np.array_equal(splits[part].labels, labels[indices])
    unpacked = made(name, {"root": tmp_path})
    assert unpacked.fingerprint == packed, "unpacking makes no other data set"
    assert np.array_equal(unpacked.splits["train"].images, splits["train"].images)


def test_grey_images_may_have_more_channels(written: dict[str, Any]) -> None:
    dataset = mnist(**written["mnist"], channels=3)
    images = dataset.splits["test"].images
    assert (images == mnist(**written["mnist"]).splits["test"].images).all()
    assert (dataset.channels, len(dataset.mean), images.shape[1]) == (3, 3, 3)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_what_is_missing_is_told_with_the_command_that_fetches_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)) as raised:
        find("datasets", name).function(root=tmp_path)
    assert raised.value.hint == f"sweep fetch {name} --root {tmp_path}"


def test_the_two_forms_of_tiny_imagenet_hold_the_same(written: dict[str, Any]) -> None:
    folders, tables = (tiny_imagenet(**written[f"tiny_imagenet{end}"]) for end in ("", " in tables"))
    assert folders.classes == ("goldfish", "European fire salamander", "king penguin")
    assert tables.classes == tuple(WORDS)
    assert rows(folders.splits["test"].images) == rows(tables.splits["test"].images)
    for name in ("train", "validation"):
        assert np.array_equal(folders.splits[name].images, tables.splits[name].images)
        assert np.array_equal(folders.splits[name].labels, tables.splits[name].labels)
    expected = np.asarray(Image.open(io.BytesIO(jpeg(1000))).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(folders.splits["test"].images[0], expected)
    assert folders.splits["test"].labels.tolist() == [0, 1, 2] * TESTED


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


def attacks(place: Path) -> dict[str, bytes]:
    """Pickles that would make a file at the place, or change the reader, if they were run."""
    run, calls = f"touch {place}".encode(), {}
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
    victim, place = tmp_path / "cifar-10-batches-py" / file, tmp_path / "it was run"
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
def test_damaged_batches_are_told_by_name(name: str, tmp_path: Path) -> None:
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
)
def test_damaged_idx_files_are_told_by_name(content: bytes, tmp_path: Path) -> None:
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
)
def test_damaged_matlab_files_are_told_by_name(content: bytes, tmp_path: Path) -> None:
    write_svhn(tmp_path)
    (tmp_path / "test_32x32.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"test_32x32\.mat"):
        svhn(root=tmp_path).decode()


def test_damaged_folders_of_tiny_imagenet_are_told(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    folder = tmp_path / "tiny-imagenet-200"
    image = folder / "train" / "n01443537" / "images" / "n01443537_0.JPEG"
    image.write_bytes(image.read_bytes()[:500])
    with pytest.raises(DataError, match=r"cannot read the image .*n01443537_0\.JPEG"):
        tiny_imagenet(root=tmp_path).decode()
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


def test_damaged_tables_of_tiny_imagenet_are_told(tmp_path: Path) -> None:
    write_tables(tmp_path)
    valid = tmp_path / "data" / "valid-00000-of-00001.parquet"
    row = {"image": {"bytes": b"no picture", "path": "a.JPEG"}, "label": 0}
    pq.write_table(pa.Table.from_pylist([row]), valid)
    with pytest.raises(DataError, match=r"cannot read the image a\.JPEG in .*valid-"):
        tiny_imagenet(root=tmp_path).decode()
    pq.write_table(pa.Table.from_pylist([row | {"label": 3}]), valid)
    with pytest.raises(DataError, match="labels from 3 to 3 for 3 classes"):
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


def test_all_layouts_of_arrays_hold_the_same(tmp_path: Path) -> None:
    images, labels = pixels(0, 40, 3, 6, 6), numbers(4, 10, 0)
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


def test_arrays_of_the_same_size_are_told_apart(tmp_path: Path) -> None:
    prints = set()
    for seed in range(3):
        np.savez(tmp_path / "own.npz", images=pixels(seed, 40, 6, 6), labels=numbers(4, 10, 0))
        prints.add(arrays(file=tmp_path / "own.npz").fingerprint)
    assert len(prints) == 3


IMAGES, LABELS = pixels(0, 20, 4, 4), np.arange(20) % 2
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "holds nothing"),
    "no labels": ({"images": IMAGES}, "holds images$"),
    "only train": ({"train_images": IMAGES, "train_labels": LABELS}, "holds train_images, train_labels$"),
    "floats": ({"images": IMAGES / 255, "labels": LABELS}, "`images` is float64"),
    "float labels": ({"images": IMAGES, "labels": LABELS / 2}, "labels are whole numbers"),
    "negative labels": ({"images": IMAGES, "labels": LABELS - 1}, "labels from -1 to 0 for 1 classes"),
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
def test_arrays_that_cannot_be_used_are_told(name: str, tmp_path: Path) -> None:
    contents, told = BAD_ARRAYS[name]
    np.savez(tmp_path / "own.npz", **contents)
    with pytest.raises(DataError, match=told):
        arrays(file=tmp_path / "own.npz").decode()


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
def test_files_that_are_no_archive_are_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*own\.npz"):
        arrays(file=tmp_path / "own.npz")
    with pytest.raises(DataError, match=r"cannot read .*other\.npz"):
        arrays(file=tmp_path / "other.npz")


def test_too_many_means_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(DataError, match=r"^3 means for 1 channels$"):
        arrays(file=tmp_path / "own.npz", mean=(0.1, 0.2, 0.3))


@pytest.mark.parametrize("separation", [0.0, 2.0, 4.0])
def test_synthetic_classes_are_as_far_apart_as_is_said(separation: float) -> None:
    """Of two classes the nearest mean errs on Φ(-separation / 2)."""
    from scipy.stats import norm

    dataset = synthetic(classes=2, examples=6000, size=8, separation=separation)
    flat = {name: split.images.reshape(len(split), -1) / 32.0 for name, split in dataset.splits.items()}
    means = [flat["train"][dataset.splits["train"].labels == label].mean(0) for label in range(2)]
    distances = np.stack([((flat["test"] - mean) ** 2).sum(1) for mean in means])
    error = (distances.argmin(0) != dataset.splits["test"].labels).mean()
    assert error == pytest.approx(norm.cdf(-separation / 2), abs=0.06)


def test_synthetic_images_depend_on_settings_alone() -> None:
    one, more, other = synthetic(examples=1100), synthetic(examples=3000), synthetic(examples=1100, seed=1)
    first = one.splits["train"].images
    assert np.array_equal(more.splits["train"].images[:PIECE], first[:PIECE])
    assert not np.array_equal(other.splits["train"].images, first)
    assert one.fingerprint == ""
    levels = first / 255
    assert levels.mean((0, 2, 3)) == pytest.approx(one.mean, abs=0.01)
    assert levels.std((0, 2, 3)) == pytest.approx(one.std, abs=0.01)
    assert [len(split) for split in one.splits.values()] == [1100, 220, 220]


def test_synthetic_data_of_any_number_cost_nothing_until_they_are_decoded() -> None:
    dataset = synthetic(classes=1000, examples=1_000_000, size=224)
    assert len(dataset.splits["train"]) == 1_000_000
    with pytest.raises(DataError, match="20 images in a split for 100 classes"):
        synthetic(classes=100, examples=100)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


READER = """
import os, signal, sys, time
import numpy as np
from sweep.data import Split

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
    told = [process.communicate(timeout=60) for process in racing]
    assert told == [(f"{16 * (7 + 7 + 9)}\n", "")] * 5
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


def test_a_cache_that_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
