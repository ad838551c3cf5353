"""Data-free methods on a small network with convolution and batch norm, beside plain computations from their papers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweep.core.registry import get_plugin
from sweep.core.weights import ParameterLayout
from sweep.model.layout import flatten_state_dict, make_layout
from sweep.plugins.methods.dare import dare
from sweep.plugins.methods.della import della
from sweep.plugins.methods.weighted_soup import weighted_soup
from sweep.plugins.methods.wudi import wudi
from tests.helpers import plain_merges as plain
from tests.helpers.plain_merges import PlainMerge, per_tensor, whole
from tests.helpers.provided import LAYOUT


def network() -> nn.Module:
    """3 × 3 kernels, batch norm, and a head of 5 classes; seeded."""
    torch.manual_seed(3)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 1, bias=False), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(6, 5))


LAYER = make_layout(network(), 5)
BASE = flatten_state_dict(network().state_dict(), LAYER)[: LAYER.n_parameters].double()


def moved(count: int, *, dead: bool = True) -> Tensor:
    """Members that moved from the base; a fifth of the entries did not, nor did two kernels of the first layer."""
    generator = torch.Generator().manual_seed(count)
    moves = 0.05 * torch.randn(count, len(BASE), generator=generator, dtype=torch.float64)
    if dead:
        moves *= torch.rand(len(BASE), generator=generator) > 0.2
        moves[:, : 2 * 27] = 0
    return BASE + moves


def by_name(row: Tensor) -> plain.State:
    entries = [entry for entry in LAYER.entries if entry.stop <= LAYER.n_parameters]
    return {entry.name: row[entry.offset : entry.stop].view(entry.shape).numpy() for entry in entries}


CASES: dict[str, tuple[str, dict[str, Any], PlainMerge]] = {
    "task_arithmetic": ("task_arithmetic", {"scale": 0.4}, per_tensor(plain.task_arithmetic)),
    "ties": ("ties", {}, whole(plain.ties)),
    "ties sum": ("ties", {"density": 0.5, "merge": "sum", "scale": 0.3}, whole(plain.ties)),
    "ties by tensor": ("ties", {"density": 0.35, "scope": "tensor"}, per_tensor(plain.ties)),
    "magmax": ("magmax", {"scale": 0.7}, per_tensor(plain.magmax)),
    "breadcrumbs": (
        "breadcrumbs",
        {"density": 0.6, "gamma": 0.1, "scale": 0.3, "scope": "tensor"},
        per_tensor(plain.breadcrumbs),
    ),
    "breadcrumbs by row": (
        "breadcrumbs",
        {"density": 0.4, "gamma": 0.4, "scale": 0.3, "scope": "row"},
        per_tensor(plain.breadcrumbs),
    ),
    "model_stock": ("model_stock", {}, per_tensor(plain.model_stock)),
    "consensus_ta": ("consensus_ta", {"mask": 0.6, "agree": 2, "scale": 0.4}, per_tensor(plain.consensus_ta)),
    "sce": ("sce", {"density": 1.0}, per_tensor(plain.sce)),
    "sce selected": ("sce", {"density": 0.3}, per_tensor(plain.sce)),
    "tsv": ("tsv", {"scale": 0.8}, per_tensor(plain.tsv)),
    "iso": ("iso", {"scale": 0.8}, per_tensor(plain.iso)),
    "karcher": ("karcher", {}, plain.karcher),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [2, 3])
def test_a_method_is_what_its_paper_computes(case: str, count: int) -> None:
    name, settings, expected = CASES[case]
    members = moved(count)
    plugin = get_plugin("methods", name)
    found = plugin.call({"members": members, "base": BASE, "layout": LAYER}, plugin.validate(settings))
    states = [by_name(member) for member in members]
    for tensor, array in expected(states, by_name(BASE), **settings).items():
        np.testing.assert_allclose(by_name(found.as_subclass(Tensor))[tensor], array, atol=1e-10, err_msg=tensor)


def test_iso_on_common_and_task_directions() -> None:
    members = moved(3, dead=False)
    plugin = get_plugin("methods", "iso")
    settings = plugin.validate({"subspace": "common_and_task", "fraction": 0.4})
    found = plugin.call({"members": members, "base": BASE, "layout": LAYER}, settings)
    expected = per_tensor(plain.iso_cts)([by_name(member) for member in members], by_name(BASE), fraction=0.4)
    for tensor, array in expected.items():
        np.testing.assert_allclose(by_name(found)[tensor], array, atol=1e-9, err_msg=tensor)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("t", [0, 0.25, 1])
def test_slerp_is_an_arc_between_members_that_differ(t: float, far: bool) -> None:
    members = moved(2) if not far else torch.randn(2, len(BASE), dtype=torch.float64)
    found = get_plugin("methods", "slerp").function(members, LAYER, t=t)
    for tensor, array in plain.slerp([by_name(member) for member in members], by_name(BASE), t).items():
        np.testing.assert_allclose(by_name(found)[tensor], array, atol=1e-12, err_msg=tensor)


def test_karcher_of_a_pair_has_the_direction_of_slerp() -> None:
    members = torch.randn(2, len(BASE), dtype=torch.float64)
    members /= members.norm(dim=1, keepdim=True)
    arc = get_plugin("methods", "slerp").function(members, LAYER, scope="global")
    mean = get_plugin("methods", "karcher").function(members, LAYER, scope="global")
    torch.testing.assert_close(mean, arc, atol=1e-12, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_median_and_trimmed_mean_are_those_of_numpy_and_scipy(count: int) -> None:
    from scipy.stats import trim_mean

    members = moved(count)
    median = get_plugin("methods", "median").function(members)
    np.testing.assert_allclose(median.numpy(), np.median(members.numpy(), 0), atol=1e-15)
    trimmed = get_plugin("methods", "trimmed_mean").function(members, trim=0.4)
    np.testing.assert_allclose(trimmed.numpy(), trim_mean(members.numpy(), 0.4, axis=0), atol=1e-15)


def test_wudi_is_adam_on_the_stated_loss() -> None:
    """Both orders of products: the head has more inputs per output than the wide kernels have."""
    members = moved(2)
    found = by_name(wudi(members, BASE, LAYER, steps=20, rate=1e-3))
    for name, array in by_name(BASE).items():
        if array.ndim > 1:
            vectors = torch.tensor(plain.deltas([by_name(member) for member in members], by_name(BASE), name))
            matrices = vectors.view(2, array.shape[0], -1)
            merged = nn.Parameter(matrices.sum(0))
            optimizer = torch.optim.Adam([merged], lr=1e-3)
            for _ in range(20):
                norms = matrices.square().sum((1, 2), keepdim=True)
                loss = (((merged - matrices) @ matrices.mT).square() / norms).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            expected = array + merged.detach().view(array.shape).numpy()
            np.testing.assert_allclose(found[name], expected, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("merge", [dare, della], ids=["dare", "della"])
def test_random_drops_keep_the_mean_and_have_the_stated_variance(merge: Callable[..., Tensor]) -> None:
    """Over 4,000 masks; an entry of dare has the variance τ² drop / (1 - drop), of della τ² (1 - p) / p."""
    base = torch.zeros(6, dtype=torch.float64)
    member = torch.tensor([[0.1, -0.2, 0.3, 0.4, -0.5, 1.0]], dtype=torch.float64)
    layout = ParameterLayout((LAYOUT.entries[0]._replace(shape=(2, 3)),), (), ())
    settings = {"drop": 0.6} if merge is dare else {"density": 0.4, "epsilon": 0.2, "then": "average"}
    draws = [merge(member, base, layout, torch.Generator().manual_seed(seed), **settings) for seed in range(4000)]
    found = torch.stack(draws)
    stays = torch.full((6,), 0.4) if merge is dare else torch.tensor([0.2, 0.4, 0.6] * 2)
    spread = member[0] * ((1 - stays) / stays).sqrt()
    torch.testing.assert_close(found.mean(0), member[0], atol=0.04, rtol=0)
    torch.testing.assert_close(found.std(0), spread.abs(), atol=0, rtol=0.06)


def test_dare_by_norm_keeps_the_sum_of_magnitudes_of_each_tensor() -> None:
    members = moved(1)
    found = dare(members, BASE, LAYER, torch.Generator().manual_seed(0), drop=0.5, rescale="norm")
    moves = by_name(found - BASE)
    for name, array in by_name(members[0] - BASE).items():
        assert np.abs(moves[name]).sum() == pytest.approx(np.abs(array).sum(), rel=1e-9)


@pytest.mark.parametrize("method", ["dare", "della"])
@pytest.mark.parametrize("then", ["average", "task_arithmetic", "ties"])
def test_sparse_vectors_are_put_together_as_asked(method: str, then: str) -> None:
    """Members that differ in one entry each, so that every way of putting them together is known from one mask."""
    members = moved(3)
    merge = get_plugin("methods", method).function
    alone = []
    for place in range(3):
        others = BASE.repeat(3, 1)
        others[place] = members[place]
        alone.append(merge(others, BASE, LAYER, torch.Generator().manual_seed(1), then="task_arithmetic") - BASE)
    found = merge(members, BASE, LAYER, torch.Generator().manual_seed(1), then=then) - BASE
    vectors = torch.stack(alone).numpy()
    expected = {"average": vectors.mean(0), "task_arithmetic": vectors.sum(0), "ties": plain.elect(vectors)}[then]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


class TestWeightedSoup:
    def test_weights_are_divided_by_their_sum(self) -> None:
        members = moved(2)
        found = weighted_soup(members, LAYER, weights=(3, 1)).as_subclass(Tensor)
        torch.testing.assert_close(found, 0.75 * members[0] + 0.25 * members[1])

    def test_a_gradient_over_depth_goes_from_the_first_layer_to_the_last(self) -> None:
        members = moved(2)
        found = by_name(weighted_soup(members, LAYER, weights=(1, 0), last=(0, 1)).as_subclass(Tensor))
        first, last = (by_name(member) for member in members)
        shares = {"0": 0, "1": 0, "3": 0.5, "5": 1}  # batch norm is as deep as the convolution before it
        for name, array in found.items():
            share = shares[name.partition(".")[0]]
            np.testing.assert_allclose(array, (1 - share) * first[name] + share * last[name], atol=1e-15)

    def test_a_glob_has_weights_of_its_own(self) -> None:
        members = moved(2)
        found = by_name(
            weighted_soup(members, LAYER, tensors={"5.*": (0, 1), "[01].weight": (1, 0)}).as_subclass(Tensor)
        )
        first, last = (by_name(member) for member in members)
        np.testing.assert_array_equal(found["5.weight"], last["5.weight"])
        np.testing.assert_array_equal(found["0.weight"], first["0.weight"])
        np.testing.assert_allclose(found["0.bias"], (first["0.bias"] + last["0.bias"]) / 2)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"weights": (1, 2, 3)}, "expected 2 weights, one per member, got 3"),
            ({"last": (0, 0)}, "expected a weight above 0"),
            ({"tensors": {"nope*": (1, 1)}}, "no tensor matches `nope"),
            ({"tensors": {"5.*": (0, 1), "*.weight": (1, 0)}}, "both match 5.weight"),
        ],
    )
    def test_weights_that_fit_no_subset_are_refused(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            weighted_soup(moved(2), LAYER, **settings)
