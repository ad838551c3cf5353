"""Batch sizes and memory formats: set by the user, or tuned once per run folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweep.core.forward_options import ForwardOptions
from sweep.model.batching import DEFAULT_TUNING, BatchTuning, choose_batching, hill_climb, network_key
from sweep.model.split import Batching, DeviceSplit
from sweep.storage.run_folder import RunFolder
from tests.helpers.command import SWEEP, rows, sweep
from tests.helpers.engine import trained
from tests.helpers.small import SMALL

CNN = "{cnn: {width: 4}}"
SIZES = [32, 64, 128, 256, 512]


@pytest.fixture
def split() -> DeviceSplit:
    """Ten coloured images."""
    images = torch.randint(256, (10, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    return DeviceSplit(images, torch.arange(10), scale, scale)


@pytest.mark.parametrize(("last", "layout"), [(True, "last"), (False, "first"), (None, "last")])
def test_a_split_is_handed_out_as_the_batching_says(split: DeviceSplit, last: bool | None, layout: str) -> None:
    batches = list(split.iter_batches(ForwardOptions(), Batching(4, last)))
    assert [len(images) for images in batches] == [4, 4, 2]
    assert torch.equal(torch.cat(batches), split.normalize(split.images[:]))
    assert {each.is_contiguous(memory_format=torch.channels_last) for each in batches} == {layout == "last"}
    assert {each.is_contiguous() for each in batches} == {layout == "first"}


def test_the_batch_size_of_a_pass_comes_before_that_of_the_run(split: DeviceSplit) -> None:
    assert len(next(split.iter_batches(ForwardOptions(batch_size=3), Batching(4)))) == 3


@given(st.lists(st.floats(1e4, 1e7), min_size=5, max_size=5))
def test_no_size_that_was_tried_is_much_faster_than_the_one_that_is_taken(rates: list[float]) -> None:
    tried: list[int] = []

    def rate_of(size: int) -> float:
        tried.append(size)
        return rates[SIZES.index(size)]

    best, rate = hill_climb(rate_of, SIZES)
    assert tried == SIZES[: len(tried)]
    assert rate == rates[SIZES.index(best)] > max(rates[: len(tried)]) / 1.031
    smaller = rates[: SIZES.index(best)]
    assert all(rate >= 1.03 * other for other in smaller[:1]), "a larger batch takes more memory"


def test_sizes_are_tried_until_two_do_not_pay() -> None:
    rates = {32: 1000.0, 64: 990.0, 128: 1020.0, 256: 5000.0, 512: 9000.0}
    assert hill_climb(rates.__getitem__, SIZES) == (32, 1000.0)
    rates[128] = 1035.0
    assert hill_climb(rates.__getitem__, SIZES) == (512, 9000.0)
    assert hill_climb(rates.__getitem__, [32]) == (32, 1000.0)


def test_a_batch_that_takes_long_needs_no_larger_one() -> None:
    assert hill_climb({32: 1000.0, 64: 1040.0, 128: 200.0, 256: 300.0}.__getitem__, SIZES[:4]) == (64, 1040.0)
    assert hill_climb({32: 100.0}.__getitem__, SIZES) == (32, 100.0)
    assert hill_climb({32: 0.0}.__getitem__, SIZES) == (32, 0.0), "memory is too small for any"


def test_the_batching_is_set_by_the_user_or_tuned() -> None:
    pool = trained(CNN)
    network = network_key(pool.pool.population.architecture, pool.dataset)
    info = {"evaluation": {"measured": {network: BatchTuning(512, False, 1e4)._asdict()}}}
    assert choose_batching(64, info, network) == Batching(64)
    assert choose_batching("auto", json.loads(json.dumps(info)), network) == Batching(512, False)
    assert choose_batching("auto", info, "another") == choose_batching("auto", {}, network) == DEFAULT_TUNING.batching


@pytest.mark.ray
@pytest.mark.slow
def test_what_was_measured_is_kept_for_the_whole_run(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL.replace("block_size: 16", "block_size: 16, eval_batch_size: auto"))
    first = sweep("run", "small.yaml", cwd=tmp_path)
    assert "tuning batch sizes" in first.stderr
    folder = RunFolder(tmp_path / "runs/small")
    (network,) = (found := folder.run_info()["evaluation"])["measured"]
    assert json.loads(network) == ["mlp", {"hidden": [16]}, 10, 1, 8]
    assert found["batch"] == "auto"
    done = rows(folder.path)
    chosen = folder.read("candidates").to_pylist()[0]
    (here,) = json.loads(sweep("one", "runs/small", chosen["candidate_id"], "--json", cwd=tmp_path).stdout)
    assert here["cross_entropy"] == chosen["cross_entropy"]
    for table in ("candidates", "predictions", "tasks"):
        shutil.rmtree(folder.path / "tables" / table)
    again = sweep("run", "small.yaml", "execution.eval_batch_size=64", cwd=tmp_path)
    assert "execution.eval_batch_size: using auto as recorded in this run folder" in again.stderr
    assert "tuning batch sizes" not in again.stderr
    assert folder.run_info()["evaluation"] == found
    assert rows(folder.path) == done


@pytest.mark.ray
@pytest.mark.slow
def test_a_network_that_cannot_be_tuned_runs_with_the_default(tmp_path: Path) -> None:
    (tmp_path / "picky.py").write_text(PICKY)
    text = SMALL.replace("{mlp: {hidden: [16]}}", "'picky:picky'").replace("pools: 2", "pools: 1")
    (tmp_path / "small.yaml").write_text(text.replace("block_size: 16", "block_size: 16, eval_batch_size: auto"))
    stderr = sweep("run", "small.yaml", cwd=tmp_path, PYTHONPATH=str(tmp_path)).stderr
    assert "using batch size 128, since tuning failed: ValueError: no 32 images at once" in stderr
    assert {row["status"] for row in rows(tmp_path / "runs/small").values()} == {"ok"}


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_can_be_stopped_while_it_measures(tmp_path: Path) -> None:
    (tmp_path / "picky.py").write_text(PICKY.replace('raise ValueError("no 32 images at once")', "time.sleep(600)"))
    text = SMALL.replace("{mlp: {hidden: [16]}}", "'picky:picky'").replace("pools: 2", "pools: 1")
    (tmp_path / "small.yaml").write_text(text.replace("block_size: 16", "block_size: 16, eval_batch_size: auto"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [*SWEEP, "run", "small.yaml"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        assert any("tuning batch sizes" in line for line in run.stderr)
        run.send_signal(signal.SIGINT)
        _, stderr = run.communicate(timeout=60)
    assert run.returncode == 130, stderr
    assert RunFolder(tmp_path / "runs/small").run_info()["evaluation"]["measured"] == {}
    assert not rows(tmp_path / "runs/small")


PICKY = '''"""A network that does not take every batch."""

import time

from torch import Tensor, nn


class Net(nn.Module):
    """Linear, but for 32 images."""

    def __init__(self, classes: int, entries: int) -> None:
        super().__init__()
        self.head = nn.Linear(entries, classes)

    def forward(self, images: Tensor) -> Tensor:
        if len(images) == 32:
            raise ValueError("no 32 images at once")
        return self.head(images.flatten(1))


def picky(classes: int, channels: int, size: int) -> nn.Module:
    """Linear, but for 32 images."""
    return Net(classes, channels * size**2)
'''
