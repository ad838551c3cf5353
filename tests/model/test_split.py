"""Splits on a device: images that processes share are read where they lie, and never written to."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sweep.config.recipe import Recipe
from sweep.core.dataset import Dataset, Split
from sweep.core.registry import get_plugin
from sweep.model.build import build
from sweep.model.forward import forward_split
from sweep.model.split import Batching, DeviceSplit, to_device
from sweep.plugins.datasets.synthetic import synthetic
from sweep.training.history import TrainResult
from sweep.training.trainer import train

CPU = torch.device("cpu")


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Images in mapped files, every split of them."""
    monkeypatch.setenv("MERGE_SWEEP_CACHE", str(tmp_path / "cache"))
    dataset = synthetic(examples=300, size=8)
    for split in dataset.splits.values():
        split.bound = 0
        assert isinstance(split.images, np.memmap)
    return dataset


def used(dataset: Dataset) -> tuple[TrainResult, Tensor]:
    """A short training with all that touches images, and what the network says of a split."""
    splits = {name: to_device(dataset, name, CPU) for name in ("train", "validation", "test")}
    model = build(get_plugin("architectures", "cnn").function, (10, 3, 8), 0, width=4)
    recipe = Recipe(epochs=2, batch_size=32, crop=2, flip=True, mixup=0.3)
    return train(model, splits, recipe, 1, epochs=2), forward_split(model, splits["test"], Batching(7)).logits


def test_mapped_images_train_and_evaluate_to_the_same_bits_and_stay_as_they_were(mapped: Dataset) -> None:
    files = [split.file for split in mapped.splits.values()]
    before = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file]
    one, logits = used(mapped)
    other, plain_logits = used(synthetic(examples=300, size=8))
    assert all(torch.equal(one.state[name], other.state[name]) for name in other.state)
    assert torch.equal(logits, plain_logits)
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file] == before
    assert len(before) == 3


def test_what_is_taken_out_of_shared_images_is_a_copy() -> None:
    dataset = synthetic(examples=50, size=8)
    images = dataset.splits["train"].images
    expected = images.copy()
    images.flags.writeable = False  # as Ray hands out what processes share
    split = to_device(dataset, "train", CPU)
    for chosen in (slice(0, 50), torch.arange(50), torch.tensor([3, 3, 1])):
        taken = split.images[chosen]
        assert np.array_equal(taken.numpy(), expected[chosen])
        taken.zero_()
    assert np.array_equal(images, expected)


def test_a_split_beyond_memory_is_read_where_it_lies(tmp_path: Path) -> None:
    count = 2**18
    terabyte = 2**40
    with open(tmp_path / "images.npy", "wb") as file:
        shape = (count, 1, 2048, 2048)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        start = file.tell()
        file.truncate(start + terabyte)  # holes, which take no place
        file.seek(start + terabyte - 1)
        file.write(b"\7")
    large = Split(np.arange(count) % 2, lambda: iter(()), key="large", file=tmp_path / "images.npy")
    small = synthetic(examples=20, classes=2, channels=1)
    dataset = dataclasses.replace(small, splits={**small.splits, "test": large})
    split: DeviceSplit = to_device(dataset, "test", CPU)
    assert len(split.images) == count
    assert int(split.images[torch.tensor([5, count - 1])].sum()) == 7
    assert next(split.batches(1)).shape == (1, 1, 2048, 2048)
