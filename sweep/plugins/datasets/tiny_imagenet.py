"""Tiny ImageNet from the folders of its zip, or from Parquet files."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sweep.core.dataset import (
    DataError,
    Dataset,
    Images,
    Indices,
    Labels,
    Part,
    Pixels,
    PublishedInfo,
    Seed,
    Share,
)
from sweep.core.hash_cache import cached_digests
from sweep.core.paths import expand
from sweep.plugins.datasets._image_files import Ignored, file_digests
from sweep.plugins.datasets._pictures import PIECE, check_image, decode_files, decode_image
from sweep.plugins.datasets._published import Pieces, Published, check_labels, numbered_classes

CITES = ("le2015tiny",)

RECIPE = {"crop": 8, "flip": True}
ON_PAPER = PublishedInfo(classes=200, train=100_000, test=10_000)
FILES = (
    Part(
        url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        md5="90528d7ca1a48142e341f4ef8d21d0de",  # the one that the loaders of this data set agree on
        file="tiny-imagenet-200.zip",
        folder="tiny-imagenet-200",
    ),
)

_MEAN = (0.4802, 0.4481, 0.3975)
_STD = (0.2770, 0.2691, 0.2821)


def tiny_imagenet(*, root: Path, size: Pixels = 64, split: Seed = 0, validation: Share = 0.1) -> Dataset:
    """Tiny ImageNet (200 classes, 64x64 RGB): 100,000 training and 10,000 test images.

    Read from root/tiny-imagenet-200 or root/data/*.parquet. `validation` is the share of the training images held out
    for validation, in a stratified random split with the seed `split`. The official validation split is the test split,
    since the labels of the official test split were never published. Raises DataError for missing or damaged files.
    Source: Y. Le, X. Yang, "Tiny ImageNet Visual Recognition Challenge", CS231N 2015.
    """
    place = expand(root)
    folders = [each for each in (place / "tiny-imagenet-200", place) if (each / "wnids.txt").is_file()]
    tables = [each for each in (place / "data", place) if any(each.glob("train-*.parquet"))]
    if not folders + tables:
        raise DataError(f"no tiny-imagenet-200 in {place}", f"sweep fetch tiny_imagenet --root {root}")
    found = _folders(folders[0], size) if folders else _tables(tables[0], size)
    return Published("tiny_imagenet", found.classes, _MEAN, _STD, size, *found[:3]).split(split, validation)


class _Found(NamedTuple):
    digests: Mapping[str, Iterable[str]]
    labels: Mapping[str, Labels]
    pieces: Pieces
    classes: tuple[str, ...]


def _folders(folder: Path, size: int) -> _Found:
    """Files as in the zip; classes in the order of their WordNet ids."""
    try:
        ids = sorted(_text(folder / "wnids.txt").split())
        listed = {"train": _training_files(folder, ids), "test": _test_files(folder, ids)}
        files = {part: [file for file, _ in pairs] for part, pairs in listed.items()}
        words = _words(folder, ids)
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error}", "unpack the zip again") from error
    labels = {part: np.array([label for _, label in pairs], dtype=np.int64) for part, pairs in listed.items()}
    digests = {part: file_digests(several) for part, several in files.items()}
    return _Found(digests, labels, partial(_of_files, files, size), words)


def _text(file: Path) -> str:
    """The text of a file, whose bytes need not be UTF-8, as those of file names."""
    return os.fsdecode(file.read_bytes())


def _training_files(folder: Path, ids: Sequence[str]) -> list[tuple[Path, int]]:
    """Images and labels, sorted by class and name; other files beside the images are logged."""
    found = []
    ignored = Ignored(folder)
    for label, name in enumerate(ids):
        for file in sorted((folder / "train" / name / "images").iterdir()):
            if file.suffix == ".JPEG":
                found.append((file, label))
            else:
                ignored.add("entries that are no .JPEG", file)
    ignored.log()
    return found


def _test_files(folder: Path, ids: Sequence[str]) -> list[tuple[Path, int]]:
    """Images and labels of val/val_annotations.txt, sorted by name."""
    numbers = {name: label for label, name in enumerate(ids)}
    notes = folder / "val" / "val_annotations.txt"
    pairs = []
    for line in sorted(_text(notes).splitlines()):
        file, _, rest = line.partition("\t")
        name = rest.split("\t")[0]
        if name not in numbers:
            raise DataError(f"{notes}: `{line}` names no class of wnids.txt")
        pairs.append((folder / "val" / "images" / file, numbers[name]))
    return pairs


def _words(folder: Path, ids: Sequence[str]) -> tuple[str, ...]:
    """The first word for each WordNet id; the id itself where there is none."""
    file = folder / "words.txt"
    lines = _text(file).splitlines() if file.is_file() else []
    words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return tuple(words.get(name, name).split(",")[0] for name in ids)


def _of_files(files: Mapping[str, Sequence[Path]], size: int, part: str, indices: Indices) -> Iterator[Images]:
    return decode_files([files[part][index] for index in indices], size, "RGB")


def _tables(folder: Path, size: int) -> _Found:
    """Parquet files with columns `image` (bytes and path) and `label`, as on the Hugging Face hub."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = {part: sorted(folder.glob(f"{name}-*.parquet")) for part, name in (("train", "train"), ("test", "valid"))}
    if not files["test"]:
        raise DataError(f"no file {folder}/valid-*.parquet")
    try:
        labels = {part: _column([pq.read_table(file, columns=["label"]) for file in files[part]]) for part in files}
        noted = json.loads((pq.read_schema(files["train"][0]).metadata or {}).get(b"huggingface", b"{}"))
        names = noted.get("info", {}).get("features", {}).get("label", {}).get("names")
    except (OSError, KeyError, ValueError, AttributeError, pa.ArrowException) as error:
        raise DataError(f"cannot read the Parquet files in {folder}: {error}") from error
    labels = {part: check_labels(each, None, folder) for part, each in labels.items()}
    classes = tuple(map(str, names)) if isinstance(names, list) else numbered_classes(labels, folder)
    labels = {part: check_labels(each, len(classes), folder) for part, each in labels.items()}
    digests = {part: cached_digests(several, "checked parquet images", _row_digests) for part, several in files.items()}
    return _Found(digests, labels, partial(_of_rows, files, size), classes)


def _row_digests(file: Path) -> str:
    """The sha256 of each encoded image in its row, one per line: images cut into other files have equal digests.

    Raises DataError for an image that `check_image` refuses.
    """
    try:
        rows = (row for batch in _batches(file) for row in batch["image"].to_pylist())
        return "\n".join(_row_digest(row["bytes"] or b"", _row_name(file, row)) for row in rows)
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: expected a column `image` with `bytes` and `path`") from error


def _row_digest(image: bytes, name: str) -> str:
    check_image(io.BytesIO(image), name)
    return hashlib.sha256(image).hexdigest()


def _row_name(file: Path, row: Mapping[str, Any]) -> str:
    return f"{row['path']} in {file}"


def _column(tables: Sequence[Any]) -> Labels:
    labels: Labels = np.concatenate([table["label"].to_numpy() for table in tables])
    if labels.dtype.kind not in "iu" or not len(labels):
        raise ValueError(f"{len(labels)} labels of {labels.dtype}")
    return labels


def _of_rows(files: Mapping[str, Sequence[Path]], size: int, part: str, indices: Indices) -> Iterator[Images]:
    """Images of the examples, whose indices ascend: one piece per batch of rows that holds some of them."""
    start = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file in files[part]:
            for batch in _batches(file):
                chosen = indices[(start <= indices) & (indices < start + len(batch))] - start
                pictures = batch["image"].take(chosen).to_pylist()
                start += len(batch)
                if pictures:
                    yield np.stack(list(pool.map(partial(_of_row, file, size), pictures)))


def _batches(file: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            yield from table.iter_batches(PIECE, columns=["image"])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {file}: {error}") from error


def _of_row(file: Path, size: int, row: Mapping[str, Any]) -> Images:
    return decode_image(row["bytes"] or b"", _row_name(file, row), size, "RGB")
