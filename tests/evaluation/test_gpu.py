"""A GPU gives what a CPU gives: `pytest -m gpu`. On a CPU the same comparisons run, so that they are known to hold."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sweep.config.recipe import Recipe
from sweep.evaluation.engine import PoolEngine, make_engine
from sweep.evaluation.merge import make_merge
from sweep.model.batching import tune_batch
from sweep.model.layout import make_layout
from sweep.model.metrics import compute_metrics
from sweep.model.runtime import setup_worker
from sweep.model.split import Batching, DeviceSplit
from sweep.plan.candidates import Candidate
from sweep.plan.work import CandidateWork
from sweep.storage.run_folder import RunFolder
from sweep.training.checkpoint import SaveTimes, TrainingCheckpoint
from sweep.training.history import TrainResult as Outcome
from sweep.training.trainer import Trainer, train
from sweep.training.vmap_trainer import train_vmapped
from tests.helpers.command import sweep
from tests.helpers.engine import Trained, plan_of, trained
from tests.training.test_trainer import states_equal
from tests.training.test_vmap_trainer import EVERYTHING, assert_the_same, maker, pictures

MARGIN = 1e-4
"""Of the two largest logits: where they are closer, either may be the larger one on another machine."""

_ONLY = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
DEVICES = ["cpu", pytest.param("cuda", marks=_ONLY)]

METHODS = """[uniform_soup, greedy_soup, greedy_halving, greedy_indexed, greedy_ensemble, greedy_ensemble_unscaled,
    first_member, logit_average, probability_average, {feature_average: {head: [first, average]}},
    {interpolation: {weight: [0, 0.25, 1]}}]"""
SCALINGS = "[none, {magnify: {factor: 2}}, {homogeneous: {factor: 2}}, norm_matched, {noise: {}}]"
ARCHITECTURES = [
    "{cnn: {width: 4, dropout: 0}}",
    "{mlp: {hidden: [16], dropout: 0}}",
    "{mlp_bn: {hidden: [16], dropout: 0}}",
]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device of a worker that was given as many GPUs."""
    return setup_worker(1, 1.0 if request.param == "cuda" else 0.0)


def on(device: torch.device, data: dict[str, DeviceSplit]) -> dict[str, DeviceSplit]:
    names = ("images", "labels", "mean", "std")
    return {part: DeviceSplit(*(getattr(split, n).to(device) for n in names)) for part, split in data.items()}


def candidates_of(pool: Trained, protocols: str = "correct") -> list[Candidate]:
    """Every method under every scaling, of the subsets that a test has time for."""
    written = pool.plan.sweep.populations[0].to_config
    plan = plan_of(written, f"{METHODS}\nprotocols: {protocols}", SCALINGS)
    return [each for each in plan.candidates if each.subset in ((0,), (2,), (0, 1), (0, 1, 2))]


def assert_alike(found: Tensor, expected: Tensor, labels: Tensor) -> None:
    first, second = expected.topk(2, dim=1).values.unbind(1)
    differ = found.argmax(1) != expected.argmax(1)
    assert not (differ & (first - second >= MARGIN)).any()
    here, there = (compute_metrics(logits, labels, ("cross_entropy",))["cross_entropy"] for logits in (expected, found))
    assert there == pytest.approx(here, abs=1e-4)


def compare(pool: Trained, reference: PoolEngine, other: PoolEngine, candidates: list[Candidate]) -> None:
    labels = reference.split("test").labels
    for candidate in candidates:
        expected, _ = make_merge(reference, candidate).logits("test")
        found, _ = make_merge(other, candidate).logits("test")
        assert found.device.type == other.device.type
        assert_alike(found.cpu(), expected, labels[: len(expected)])


@pytest.mark.parametrize("last", [None, True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_candidate_says_what_it_says_on_a_cpu(architecture: str, last: bool | None, device: torch.device) -> None:
    pool = trained(architecture)
    other = make_engine(pool.pool, pool.weights(), pool.dataset, str(device), Batching(64, last))
    candidates = candidates_of(pool)
    assert len({(each.method, each.scaling) for each in candidates}) > 50
    compare(pool, pool.engine(), other, candidates)


@pytest.mark.parametrize(
    "protocol", ["scale_buffers", "float64", "wrong_normalisation", "overlapping_validation", "train_mode"]
)
def test_every_protocol_too(protocol: str, device: torch.device) -> None:
    pool = trained("{mlp_bn: {hidden: [16], dropout: 0}}")
    other = make_engine(
        pool.pool, pool.weights(), pool.dataset, str(device), Batching(256)
    )  # train_mode sees the batches
    candidates = [each for each in candidates_of(pool, f"[correct, {protocol}]") if each.protocol.name != "correct"]
    assert candidates
    compare(pool, pool.engine(), other, candidates)


def test_aligned_and_repaired_merges_too(device: torch.device) -> None:
    pool = trained("{mlp_bn: {hidden: [16], dropout: 0}}")
    steps = "alignments: [none, weight_matching]\nrepairs: [none, reset_bn, rescale_activations]"
    plan = plan_of(pool.plan.sweep.populations[0].to_config, f"[uniform_soup]\n{steps}", "none")
    candidates = [each for each in plan.candidates if each.subset in ((0, 1), (0, 1, 2))]
    assert len(candidates) == 2 * 2 * 3
    other = make_engine(pool.pool, pool.weights(), pool.dataset, str(device), Batching(64))
    compare(pool, pool.engine(), other, candidates)


def test_rows_are_whole_on_every_device(device: torch.device) -> None:
    """Metrics, predictions and the name of the device, from the same code as in a worker."""
    from sweep.evaluation.block import BlockRunner

    pool = trained(ARCHITECTURES[0])
    engine = make_engine(pool.pool, pool.weights(), pool.dataset, str(device), Batching(64))
    metrics = ("accuracy", "cross_entropy", "brier", "ece")
    evaluator = BlockRunner(engine, pool.pool, "test", metrics, probabilities=True)
    expected = pool.evaluator()
    for candidate in candidates_of(pool)[::7]:
        row, prediction = evaluator.evaluate(candidate, ("test",))[0]
        here, _ = expected.evaluate(candidate, ("test",))[0]
        assert row["status"] == here["status"] == "ok", row["error"]
        assert prediction is not None
        assert {metric: row[metric] for metric in metrics[1:]} == pytest.approx(
            {metric: here[metric] for metric in metrics[1:]}, abs=2e-3
        )
        assert (row["device"] == "cpu") == (device.type == "cpu")
    rows = evaluator.run(CandidateWork([(each, ("test",)) for each in candidates_of(pool)[:20]]))
    assert rows.cost["forward_passes"] > 0


def test_the_way_that_is_fastest_says_what_any_says(device: torch.device) -> None:
    pool = trained(ARCHITECTURES[0])
    first = pool.pool.members[0]
    gpus = 1.0 if device.type == "cuda" else 0.0
    found = tune_batch(first.population.architecture, first.init_seed, pool.dataset, 1, gpus)
    assert 1 <= found.images <= len(pool.engine().split("test").labels)
    assert found.images_per_second
    other = make_engine(pool.pool, pool.weights(), pool.dataset, str(device), found.batching)
    compare(pool, pool.engine(), other, candidates_of(pool)[:20])


@pytest.mark.parametrize("together", [False, True])
def test_training_is_that_of_a_cpu(device: torch.device, *, together: bool) -> None:
    """Without dropout, whose random numbers a GPU draws itself."""
    make = maker("cnn", width=4, dropout=0)
    recipe = Recipe(**EVERYTHING | {"batch_size": 32, "epochs": 1})
    data = pictures()
    alone = [train(make(seed), data, recipe, 50 + seed, epochs=1) for seed in range(2)]
    models = [make(seed).to(device) for seed in range(2)]
    there = on(device, data)
    if together:
        found = train_vmapped(models, there, recipe, [50, 51], epochs=1)
    else:
        found = [train(model, there, recipe, 50 + seed, epochs=1) for seed, model in enumerate(models)]
    for each, reference in zip(found, alone, strict=True):
        assert isinstance(each, Outcome)
        for name, tensor in reference.state.items():
            torch.testing.assert_close(each.state[name].cpu(), tensor, rtol=0, atol=1e-4)


def test_dropout_is_the_same_together_and_one_by_one(device: torch.device) -> None:
    make = maker("cnn", width=4, dropout=0.5)
    data = on(device, pictures())
    recipe = Recipe(**EVERYTHING | {"batch_size": 32, "epochs": 1})
    alone = [train(make(seed).to(device), data, recipe, 50 + seed, epochs=1) for seed in range(2)]
    found = train_vmapped([make(seed).to(device) for seed in range(2)], data, recipe, [50, 51], epochs=1)
    assert_the_same(alone, [each for each in found if isinstance(each, Outcome)], tolerance=1e-5)


@pytest.mark.parametrize("architecture", ["cnn", "mlp_bn"])
def test_the_same_bits_again(architecture: str, device: torch.device) -> None:
    make = maker(architecture)
    data = on(device, pictures())
    recipe = Recipe(batch_size=32, epochs=2, crop=2)
    first, second = (train(make(0).to(device), data, recipe, 1, epochs=2) for _ in range(2))
    assert states_equal(first.state, second.state)
    assert first.best.validation_cross_entropy == second.best.validation_cross_entropy


def test_a_training_goes_on_where_it_was(tmp_path: Path, device: torch.device) -> None:
    """What a file keeps comes back to the device."""
    make = maker("cnn", width=4)
    data = on(device, pictures())
    recipe = Recipe(batch_size=32, optimizer="adamw", lr=0.003)
    partial = TrainingCheckpoint(tmp_path / "a.partial", device, SaveTimes(0))
    uninterrupted, resumed = (Trainer(make(0).to(device), data["train"], recipe, 1) for _ in range(2))
    uninterrupted.epoch(0, 2)
    partial.save(uninterrupted.state)
    kept = partial.load()
    assert kept is not None
    resumed.restore(kept)
    assert uninterrupted.epoch(1, 2) == resumed.epoch(1, 2)
    assert states_equal(uninterrupted.model.state_dict(), resumed.model.state_dict())
    assert make_layout(resumed.model.cpu(), 4).n_parameters > 0


RUN = """
name: small
dataset: {digits: {size: 8}}
populations:
  - {architecture: {cnn: {width: 2}}, members: 4, train: {epochs: 1, batch_size: 128, vmap_members: [1, 2]}}
subsets: {sizes: [2, 3], per_size: 4}
methods: [uniform_soup, greedy_soup, logit_average]
execution: {mlflow: false}
"""


@pytest.mark.ray
@pytest.mark.slow
def test_fractions_of_a_gpu_carry_out_a_sweep(tmp_path: Path, device: torch.device) -> None:
    """Trained and evaluated there, and the same members evaluated on a CPU."""
    share = 0.25 if device.type == "cuda" else 0
    (tmp_path / "f.yaml").write_text(RUN)
    sweep("run", "f.yaml", f"execution.gpus_per_member={share}", f"execution.gpus_per_worker={share}", cwd=tmp_path)
    there = RunFolder(tmp_path / "runs/small")
    for table in ("members", "candidates"):
        rows = there.read(table, ["status", "device"]).to_pylist()
        assert rows
        assert all(row["status"] == "ok" and (row["device"] == "cpu") == (share == 0) for row in rows)
    shutil.copytree(tmp_path / "runs", tmp_path / "again")
    for table in ("candidates", "predictions", "pairs"):
        shutil.rmtree(tmp_path / "again/small/tables" / table)
    sweep("run", "f.yaml", "execution.storage=again", "execution.workers=1", cwd=tmp_path)
    found = measured(there)
    expected = measured(RunFolder(tmp_path / "again/small"))
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert found[key] == pytest.approx(row, abs=1e-4)


def measured(folder: RunFolder) -> dict[str, Any]:
    rows = folder.read("candidates", ["candidate_id", "cross_entropy"]).to_pylist()
    return {row["candidate_id"]: row["cross_entropy"] for row in rows}
