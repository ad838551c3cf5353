"""Laws of blends and of scalings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sweep.core.registry import Plugin, get_plugin, list_plugins
from sweep.core.weights import TRAINABLE_ROLES, ScaleFactors, materialize, merge_coefficients
from tests.helpers.networks import awkward_layout

SCALINGS = [get_plugin("scalings", name) for name in list_plugins("scalings")]
FACTORS = [entry for entry in SCALINGS if entry.hints["return"] is ScaleFactors]
PERTURBING = [entry for entry in SCALINGS if entry not in FACTORS]


def test_statistics_take_convex_shares_and_stay_positive() -> None:
    layout = awkward_layout()
    merge = merge_coefficients(layout, (0, 1), (1.5, -0.5), torch.ones(2, len(layout.entries)))
    matrix = torch.rand(2, layout.n_entries, generator=torch.Generator().manual_seed(0)) + 0.1
    merged = materialize(matrix, merge, torch.empty(layout.n_entries))
    torch.testing.assert_close(
        merged[: layout.n_parameters], (1.5 * matrix[0] - 0.5 * matrix[1])[: layout.n_parameters]
    )
    for entry in layout.entries:
        if entry.role not in TRAINABLE_ROLES:
            torch.testing.assert_close(merged[entry.offset : entry.stop], matrix[0, entry.offset : entry.stop])


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=4), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_merges_equal_plain_sums(coefficients: list[float], seed: int) -> None:
    layout = awkward_layout()
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(len(coefficients), layout.n_entries, generator=generator)
    factors = torch.rand(len(coefficients), len(layout.entries), generator=generator, dtype=torch.float64)
    merged = materialize(
        matrix,
        merge_coefficients(layout, range(len(coefficients)), coefficients, factors),
        torch.empty(layout.n_entries),
    )
    for column, entry in enumerate(layout.entries):
        if entry.role in TRAINABLE_ROLES:
            shares = torch.tensor(coefficients, dtype=torch.float64) * factors[:, column]
            expected = (shares[:, None] * matrix[:, entry.offset : entry.stop].double()).sum(0)
            torch.testing.assert_close(merged[entry.offset : entry.stop].double(), expected, atol=1e-5, rtol=1e-5)


def test_a_larger_pool_changes_no_bit() -> None:
    layout = awkward_layout()
    matrix = torch.randn(9, layout.n_entries, generator=torch.Generator().manual_seed(1))
    ones = torch.ones(2, len(layout.entries))
    small = materialize(matrix[:3], merge_coefficients(layout, (0, 2), (0.5, 0.5), ones), torch.empty(layout.n_entries))
    large = materialize(matrix, merge_coefficients(layout, (0, 2), (0.5, 0.5), ones), torch.empty(layout.n_entries))
    assert torch.equal(small, large)


@pytest.mark.parametrize("entry", PERTURBING, ids=lambda e: str(e.name))
def test_perturbing_scalings_change_learnable_tensors_of_a_copy(entry: Plugin) -> None:
    layout = awkward_layout()
    member = torch.randn(layout.n_entries, generator=torch.Generator().manual_seed(1))
    before = member.clone()
    one, other, again = (entry.function(member, layout, torch.Generator().manual_seed(seed)) for seed in (3, 4, 3))
    assert torch.equal(member, before)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    changed = {e.role for e in layout.entries if not torch.equal(one[e.offset : e.stop], member[e.offset : e.stop])}
    assert changed <= set(TRAINABLE_ROLES)
    assert torch.isfinite(one).all()


def test_noise_is_relative_to_the_spread_of_each_tensor() -> None:
    layout = awkward_layout()
    member = torch.randn(layout.n_entries, generator=torch.Generator().manual_seed(1))
    noised = get_plugin("scalings", "noise").function(member, layout, torch.Generator().manual_seed(3), sigma=0.5)
    generator = torch.Generator().manual_seed(3)
    for entry in layout.entries:
        if entry.role in TRAINABLE_ROLES and entry.size > 1:
            piece = member[entry.offset : entry.stop]
            drawn = torch.empty(entry.size).normal_(generator=generator)
            torch.testing.assert_close(
                noised[entry.offset : entry.stop], piece + 0.5 * np.std(piece.numpy(), ddof=1) * drawn
            )


@pytest.mark.parametrize("entry", FACTORS, ids=lambda e: str(e.name))
def test_scalings_give_a_factor_per_member_and_tensor(entry: Plugin) -> None:
    layout = awkward_layout()
    for count in (1, 2, 5):
        members = torch.randn(count, layout.n_entries, generator=torch.Generator().manual_seed(count))
        before = members.clone()
        provided = {"count": count, "layout": layout, "members": members}
        factors = entry.function(*(provided[need] for need in entry.needs))
        assert torch.equal(members, before)
        assert factors.shape == (count, len(layout.entries))
        assert torch.isfinite(factors).all()
    if "factor" in entry.settings.model_fields:
        assert torch.equal(
            entry.function(3, layout, factor=1.0).as_subclass(Tensor), torch.ones(3, len(layout.entries)).double()
        )


@pytest.mark.parametrize(
    ("tensors", "chosen"),
    [
        ("parameters", set(TRAINABLE_ROLES)),
        ("all", {"weight", "bias", "norm", "head", "mean", "variance"}),
        ("weights", {"weight", "head"}),
        ("head", {"head"}),
        ("layer:0", {"weight", "bias"}),
        ("norm.*", {"norm", "mean", "variance"}),
    ],
)
def test_magnify_reaches_the_tensors_that_it_says(tensors: str, chosen: set[str]) -> None:
    layout = awkward_layout()
    factors = get_plugin("scalings", "magnify").function(2, layout, factor=3.0, tensors=tensors)
    scaled = {entry.role for entry, factor in zip(layout.entries, factors[0].tolist(), strict=True) if factor == 3.0}
    assert scaled == chosen
