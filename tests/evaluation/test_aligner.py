"""Aligned members in the engine, in real runs, and where a network cannot be aligned."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweep.core.choice import PluginConfig
from sweep.core.dataset import load_dataset
from sweep.core.ids import canonical_json, derive_seed
from sweep.evaluation.cache import BoundedCache
from sweep.model.build import build_member_model
from sweep.model.layout import unflatten_state_dict
from sweep.model.split import to_device
from sweep.model.tracing import find_permutations
from sweep.plugins.alignments.weight_matching import weight_matching
from sweep.storage.run_folder import RunFolder
from sweep.training.trainer import train
from tests.helpers.command import sweep
from tests.helpers.engine import Trained, plan_of, trained
from tests.helpers.plain_loop import CNN, assert_scores, plain_logits, plain_mean

MATCHING = PluginConfig("alignments", "weight_matching", {})
NORMED = "{mlp_bn: {hidden: [32, 32], dropout: 0}}"


def soup(pool: Trained, *subset: int, aligned: bool) -> dict[str, Any]:
    candidate = pool.candidate("uniform_soup", *subset)
    candidate = candidate._replace(alignment=MATCHING) if aligned else candidate
    row, _ = pool.evaluator().evaluate(candidate, ("test",))[0]
    assert row["status"] == "ok", row["error"]
    return row


@pytest.mark.parametrize("subset", [(0, 1), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("architecture", [CNN, NORMED])
def test_an_aligned_soup_is_what_a_plain_loop_gives(architecture: str, subset: tuple[int, ...]) -> None:
    pool = trained(architecture, "scratch")
    engine = pool.engine()
    aligned = engine.aligner.aligned(MATCHING, subset, pool.pool.id)
    assert not torch.equal(aligned, engine.matrix[list(subset)])
    states = [unflatten_state_dict(row, engine.layout, {}) for row in aligned]
    assert_scores(soup(pool, *subset, aligned=True), *plain_logits(pool, {**pool.states[0], **plain_mean(states)}))
    permutations = find_permutations(pool.model(), engine.layout, 1, 8)
    seed = derive_seed(pool.pool.id, "alignment", canonical_json([MATCHING.id_content, subset]))
    plain = weight_matching(engine.matrix[list(subset)], permutations, torch.Generator().manual_seed(seed))
    assert torch.equal(plain, aligned)


def test_aligned_members_are_made_once_and_kept_as_long_as_they_fit() -> None:
    pool = trained(CNN, "scratch")
    aligner = pool.engine().aligner
    size = aligner.matrix[:2].nbytes
    aligner.cache = BoundedCache(2 * size, lambda aligned: aligned.nbytes)

    def made(*subset: int) -> torch.Tensor:
        return aligner.aligned(MATCHING, subset, pool.pool.id)

    first = made(0, 1)
    second = made(0, 2)
    assert made(0, 1) is first
    third = made(1, 2)  # the least recently used goes
    assert made(0, 1) is first
    assert made(1, 2) is third
    assert made(0, 2) is not second
    assert torch.equal(made(0, 2), second)


@cache
def well_trained(architecture: str) -> Trained:
    """Members of their own initialisations, trained until they are right on most examples."""
    settings = "members: 3, start: scratch, train: {epochs: 15, batch_size: 128, lr: 0.1}"
    plan = plan_of(f"{{architecture: {architecture}, {settings}}}")
    (pool,) = plan.pools
    dataset = load_dataset(pool.population.dataset)
    recipe = pool.population.recipe
    splits = {name: to_device(dataset, name, torch.device("cpu")) for name in ("train", "validation")}
    states = [
        train(
            build_member_model(member.population.architecture, dataset.shape, member.init_seed),
            splits,
            recipe,
            member.order_seed,
            epochs=15,
        ).state
        for member in pool.members
    ]
    return Trained(plan, pool, dataset, tuple(states), None)


@pytest.mark.parametrize("architecture", ["{mlp: {hidden: [64], dropout: 0}}", NORMED])
def test_soups_of_members_trained_apart_are_better_aligned(architecture: str) -> None:
    """The claim of 2209.04836, on digits."""
    pool = well_trained(architecture)
    subsets = [(0, 1), (0, 2), (1, 2), (0, 1, 2)]
    plain, aligned = ([soup(pool, *subset, aligned=a)["accuracy"] for subset in subsets] for a in (False, True))
    assert all(with_it > without for with_it, without in zip(aligned, plain, strict=True))


CONFIG = """
name: aligned
dataset: {digits: {size: 8}}
populations: [{architecture: ARCHITECTURE, start: scratch, members: 3, train: {epochs: 15, batch_size: 128, lr: 0.1}}]
subsets: {sizes: [2, 3], pairs: all}
methods: [uniform_soup, greedy_soup, logit_average, {interpolation: {weight: [0, 0.5]}}]
alignments: [none, weight_matching]
execution: {mlflow: false, block_size: 8}
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_compares_members_aligned_and_not(tmp_path: Path) -> None:
    (tmp_path / "aligned.yaml").write_text(CONFIG.replace("ARCHITECTURE", NORMED))
    sweep("run", "aligned.yaml", cwd=tmp_path)
    rows = RunFolder(tmp_path / "runs/aligned").read("candidates").to_pandas()
    assert set(rows["status"]) == {"ok"}
    aligned = rows[rows["alignment"] == "weight_matching"]
    assert set(aligned["method"]) == {"uniform_soup", "greedy_soup", "interpolation"}
    soups = rows[(rows["method"] == "uniform_soup") & (rows["split"] == "test")].groupby("alignment")["accuracy"]
    assert soups.min()["weight_matching"] > soups.max()["none"]
    # The end of a path is the first member, aligned or not.
    ends = rows[(rows["method"] == "interpolation") & (rows["settings"] == '{"weight":0}') & (rows["split"] == "test")]
    for _, each in ends.groupby(ends["member_indices"].map(tuple)):
        assert np.ptp(each["accuracy"]) == 0


def test_a_network_that_cannot_be_aligned_is_reported_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "aligned.yaml").write_text(CONFIG.replace("ARCHITECTURE", "vit_tiny"))
    done = sweep("check", "aligned.yaml", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "aligned.yaml:7:1: `alignments`: `weight_matching` cannot align vit_tiny: nothing is known of" in done.stderr
    assert "`scaled_dot_product_attention`" in done.stderr
    assert "hint: convolutions, linear layers, batch and layer norm" in done.stderr
