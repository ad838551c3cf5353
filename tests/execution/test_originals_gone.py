"""A run folder is enough for its verbs once its checkpoints, image folders and arrays are moved or overwritten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sweep.core.dataset import load_dataset
from sweep.status.outline import read_inputs
from sweep.storage.run_folder import RunFolder
from tests.helpers.analysis_verbs import right
from tests.helpers.command import sweep
from tests.helpers.pictures import two_classes

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SWEEP = """
name: kept
populations:
  - {name: external, architecture: linear, dataset: {digits: {size: 8}}, base: originals/start.pt,
     checkpoints: "originals/member*.pt"}
  - {name: pictures, architecture: linear, dataset: {imagefolder: {root: originals/pictures, size: 6}}, members: 2,
     train: {epochs: 1, batch_size: 2, lr: 0.1, crop: 0, flip: false}}
  - {name: arrays, architecture: linear, dataset: {arrays: {file: originals/images.npz}}, members: 2,
     train: {epochs: 1, batch_size: 8, lr: 0.1, crop: 0, flip: false}}
subsets: {pairs: all}
methods: [uniform_soup, greedy_soup]
inspect: [layers]
execution: {workers: 1, mlflow: true, mlflow_models: 3}
"""
POPULATIONS = ("external", "pictures", "arrays")


class Done(NamedTuple):
    """A finished run, the candidates of uniform soups by population, and their weights as exported with it."""

    base: Path
    candidates: dict[str, str]
    weights: dict[str, dict[str, torch.Tensor]]


def write_originals(folder: Path, seed: int, channels: int) -> None:
    """Checkpoints, pictures and arrays of random numbers."""
    torch.manual_seed(seed)
    folder.mkdir()
    for name in ("start", "member1", "member2"):
        state = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).state_dict()
        torch.save(state, folder / f"{name}.pt")
    two_classes(folder / "pictures")
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (60, 4, 4, channels), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, labels=np.arange(60) % 3)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    base = tmp_path_factory.mktemp("run")
    write_originals(base / "originals", seed=0, channels=1)
    (base / "kept.yaml").write_text(SWEEP)
    sweep("run", "kept.yaml", cwd=base)
    rows = RunFolder(base / "runs/kept").read("candidates", method="uniform_soup").to_pylist()
    candidates = {row["population"]: row["candidate_id"] for row in rows}
    assert set(candidates) == set(POPULATIONS)
    return Done(base, candidates, {name: exported(base, candidate, name) for name, candidate in candidates.items()})


def exported(base: Path, candidate: str, name: str) -> dict[str, torch.Tensor]:
    """The weights that `sweep export` writes."""
    file = base / f"{name}.safetensors"
    file.unlink(missing_ok=True)
    file.with_suffix(".md").unlink(missing_ok=True)
    sweep("export", "runs/kept", candidate, "--to", file.name, cwd=base)
    return load_file(file)


@pytest.fixture(params=["moved", "overwritten"])
def state(done: Done, request: pytest.FixtureRequest) -> Iterator[str]:
    """The originals are moved, or others stand in their place; afterwards they are back."""
    (done.base / "originals").rename(done.base / "elsewhere")
    if request.param == "overwritten":
        write_originals(done.base / "originals", seed=1, channels=3)
        for split in ("train", "val", "test"):
            place = done.base / "originals/pictures" / split
            shutil.copytree(place / "cat", place / "eel")
    load_dataset.cache_clear()
    yield request.param
    shutil.rmtree(done.base / "originals", ignore_errors=True)
    (done.base / "elsewhere").rename(done.base / "originals")
    load_dataset.cache_clear()


def one(done: Done, population: str) -> Any:
    return sweep("one", "runs/kept", done.candidates[population], "--json", cwd=done.base, check=False)


@pytest.mark.parametrize("population", POPULATIONS)
def test_exported_weights_stay_the_same(done: Done, state: str, population: str) -> None:
    weights = exported(done.base, done.candidates[population], population)
    assert weights.keys() == done.weights[population].keys()
    assert all(torch.equal(weights[name], done.weights[population][name]) for name in weights), state


def test_one_evaluates_with_data_that_is_here_and_refuses_other_data(done: Done, state: str) -> None:
    (row,) = json.loads(one(done, "external").stdout)
    assert row["stored"] is not None
    assert row["accuracy"] == row["stored"]["accuracy"]
    for population, place in (("pictures", "originals/pictures"), ("arrays", "originals/images.npz")):
        refused = one(done, population)
        assert refused.returncode == 2
        assert str(done.base / place) in refused.stderr
        assert ("cannot be read" if state == "moved" else "not that of this run") in refused.stderr
        assert "hint: put" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_merge_that_has_to_look_at_images_names_what_is_missing(done: Done, state: str) -> None:
    rows = RunFolder(done.base / "runs/kept").read("candidates", method="greedy_soup").to_pylist()
    searched = next(row["candidate_id"] for row in rows if row["population"] == "pictures")
    refused = sweep("export", "runs/kept", searched, "--to", f"{state}.pt", cwd=done.base, check=False)
    assert refused.returncode == 2
    assert str(done.base / "originals/pictures") in refused.stderr
    assert not (done.base / f"{state}.pt").exists()


def test_the_other_verbs_need_no_original(done: Done, state: str) -> None:
    summary = json.loads(sweep("status", "runs/kept", "--json", cwd=done.base).stdout)
    assert (summary["candidates"]["new"], summary["members"]["new"], summary["unseen"]) == (0, 0, 0), state
    for verb in ("sync", "doctor", "failures", "compact"):
        assert sweep(verb, "runs/kept", cwd=done.base).returncode == 0
    query = "select count(*) as n from candidates"
    assert json.loads(sweep("sql", "runs/kept", query, "--json", cwd=done.base).stdout)[0]["n"] > 0
    right("report", str(done.base / "runs/kept"), "-o", str(done.base / f"{state}.html"))


def test_models_are_stored_in_mlflow_without_images(done: Done, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a data base that knows nothing of the run, with zeros for the example images."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{done.base}/{state}.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    shown = sweep("sync", "runs/kept", cwd=done.base).stderr
    versions = MlflowClient(uri).search_model_versions("")
    assert versions, shown


def test_a_moved_run_folder_keeps_its_record(done: Done, state: str, tmp_path: Path) -> None:
    shutil.copytree(done.base / "runs/kept", tmp_path / "renamed")
    file = tmp_path / f"{state}.safetensors"
    sweep("export", "renamed", done.candidates["external"], "--to", file.name, cwd=tmp_path)
    assert torch.equal(load_file(file)["1.weight"], done.weights["external"]["1.weight"])


def test_a_configuration_still_reads_the_originals(done: Done, state: str) -> None:
    planned = sweep("plan", "kept.yaml", "--json", cwd=done.base, check=False)
    if state == "moved":
        assert planned.returncode == 2
        assert "no file" in planned.stderr
    else:
        assert json.loads(planned.stdout)["members"]["new"] > 0


def test_without_a_record_the_originals_are_read(done: Done, tmp_path: Path) -> None:
    """As in folders of earlier versions: with the originals in place all is as before, without them one line."""
    run = tmp_path / "runs/kept"
    shutil.copytree(done.base / "runs/kept", run)
    (run / "plan.parquet").unlink()
    assert read_inputs(RunFolder(run)) is None
    candidate = done.candidates["external"]
    sweep("export", "runs/kept", candidate, "--to", "a.safetensors", cwd=tmp_path)
    assert torch.equal(load_file(tmp_path / "a.safetensors")["1.weight"], done.weights["external"]["1.weight"])
    (done.base / "originals").rename(done.base / "elsewhere")
    try:
        refused = sweep("export", "runs/kept", candidate, "--to", "b.safetensors", cwd=tmp_path, check=False)
    finally:
        (done.base / "elsewhere").rename(done.base / "originals")
    assert refused.returncode == 2
    assert "originals/member1.pt is gone" in refused.stderr
    assert "hint: put it back" in refused.stderr
