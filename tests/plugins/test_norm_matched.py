"""Members and soups at one another's norm: the scaling against plain arithmetic, the claim against made rows."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.claims.averaging_regularises import averaging_regularises
from analysis.core.errors import NothingToDrawError
from analysis.rows.norms import ARMS, norm_arms
from sweep.config.document import parse
from sweep.config.loader import check
from sweep.core.registry import list_plugins
from sweep.core.weights import TRAINABLE_ROLES, ParameterLayout, TensorSpec
from sweep.plugins.scalings.norm_matched import norm_matched
from sweep.status.preflight import check_networks, datasets
from tests.helpers import rows
from tests.helpers.engine import trained
from tests.helpers.plain_loop import assert_scores, plain_logits, row

CNN = "{cnn: {width: 4}}"
NORMED = "{mlp_bn: {hidden: [16]}}"
LAYOUT = ParameterLayout(
    (TensorSpec("a", (3,), "weight", 0), TensorSpec("b", (2,), "bias", 3), TensorSpec("c", (2,), "mean", 5)), (), ()
)


def norms(factors: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Norms of tensor `a` of each scaled member, and of their mean."""
    scaled = members[:, :3].double() * factors.as_subclass(Tensor)[:, :1]
    return scaled.norm(dim=1), scaled.mean(0).norm()


def test_members_get_the_norm_of_their_soup_and_soups_that_of_their_members() -> None:
    members = torch.randn(4, 7, generator=torch.Generator().manual_seed(1))
    own, soup = norms(torch.ones(4, 3, dtype=torch.float64), members)
    shrunk, _ = norms(norm_matched(members, LAYOUT), members)
    torch.testing.assert_close(shrunk, soup.expand(4))
    _, grown = norms(norm_matched(members, LAYOUT, to="members"), members)
    torch.testing.assert_close(grown, own.mean())
    assert (norm_matched(members, LAYOUT)[:, 2] == 1).all(), "running statistics have no norm to match"


def test_a_soup_is_as_much_smaller_as_arithmetic_says() -> None:
    members = torch.randn(5, 7, generator=torch.Generator().manual_seed(2)).double()
    members[:, :3] /= members[:, :3].norm(dim=1, keepdim=True)
    cosines = [float(members[i, :3] @ members[j, :3]) for i, j in itertools.combinations(range(5), 2)]
    expected = math.sqrt((1 + 4 * np.mean(cosines)) / 5)
    np.testing.assert_allclose(norm_matched(members, LAYOUT)[:, 0].tolist(), [expected] * 5, rtol=1e-12)


@pytest.mark.parametrize("to", ["soup", "members"])
def test_a_tensor_without_norm_stays_and_members_that_are_alike_do_too(to: Literal["soup", "members"]) -> None:
    members = torch.ones(3, 7)
    members[:, 3:5] = 0
    torch.testing.assert_close(norm_matched(members, LAYOUT, to=to).as_subclass(Tensor), torch.ones(3, 3).double())
    opposite = torch.tensor([[1.0], [-1.0]]).expand(2, 7)
    assert (norm_matched(opposite, LAYOUT, to=to) == 1).all(), "their soup is nothing: no norm to have"


def plain_mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of float tensors, counters of the first."""
    floats = {name for name, tensor in states[0].items() if tensor.is_floating_point()}
    return states[0] | {name: torch.stack([state[name] for state in states]).mean(0) for name in floats}


@pytest.mark.parametrize("architecture", [CNN, NORMED])
def test_the_engine_evaluates_what_a_plain_loop_makes(architecture: str) -> None:
    pool = trained(architecture)
    learnable = {entry.name for entry in pool.engine().layout.entries if entry.role in TRAINABLE_ROLES}
    states = pool.states
    soup = plain_mean(pool.states)

    def with_norm(state: dict[str, Tensor], norm: dict[str, float]) -> dict[str, Tensor]:
        kept = {name: tensor for name, tensor in state.items() if name not in learnable}
        return {name: state[name] * (norm[name] / state[name].norm()) for name in learnable} | kept

    members = {name: float(np.mean([state[name].norm().item() for state in states])) for name in learnable}
    smaller = {name: soup[name].norm().item() for name in learnable}
    found = partial(row, pool, "uniform_soup", 0, 1, 2)
    assert_scores(found(scaling="{norm_matched: {to: members}}"), *plain_logits(pool, with_norm(soup, members)))
    shrunk = [with_norm(state, smaller) for state in states]
    assert_scores(found(scaling="norm_matched"), *plain_logits(pool, plain_mean(shrunk)))
    logits = torch.stack([plain_logits(pool, state)[0] for state in shrunk]).mean(0)
    assert_scores(row(pool, "logit_average", 0, 1, 2, scaling="norm_matched"), logits, pool.test_split()[1])


def test_the_first_member_is_single_and_shrinks_with_its_subset() -> None:
    pool = trained(CNN)
    alone = row(pool, "single", 1)
    assert row(pool, "first_member", 1, 2)["cross_entropy"] == alone["cross_entropy"]
    shrunk = [row(pool, "first_member", *subset, scaling="norm_matched") for subset in ((0, 1), (0, 1, 2))]
    assert len({one["cross_entropy"] for one in (row(pool, "single", 0), *shrunk)}) == 3


@pytest.mark.parametrize("name", list_plugins("scalings"))
def test_every_scaling_is_checked_before_members_are_there(name: str) -> None:
    people = "populations: [{architecture: linear, members: 2}]\nsubsets: {pairs: all}\n"
    text = f"name: t\ndataset: digits\n{people}scalings: [none, {name}]\n"
    sweep = check(parse(text, "f.yaml"))
    check_networks(sweep, datasets(sweep))
    assert name in {scaling.name for grid in sweep.grids for scaling in grid.scalings}


def subset(pool: int, members: tuple[int, ...], **accuracy: float) -> list[dict[str, Any]]:
    """The arms of one subset beside its first member; those that are not named are as good as any."""
    made = []
    for (method, norm), arm in ARMS.items():
        scaled = {"scaling": "norm_matched", "scaling_settings": json.dumps({"to": norm})} if norm != "none" else {}
        values = {"accuracy": accuracy.get(arm, 0.9), **scaled}
        made += [rows.candidate(pool, members, method, **values)] if arm != "member" else []
    return made


def several(**accuracy: float) -> list[dict[str, Any]]:
    """Four pools, of which one has four subsets; what each adds to an arm is the same for the arms of a subset."""
    made = []
    for pool in range(4):
        made += [rows.candidate(pool, (index,), "single", accuracy=accuracy["member"]) for index in range(2)]
        for index in range(1, 5 if pool == 0 else 2):
            shift = 0.001 * (pool + index)
            made += subset(
                pool, (0, index), **{arm: value + shift * (arm == "soup") for arm, value in accuracy.items()}
            )
    return made


def test_what_the_norm_is_worth_is_the_mean_of_both_ways_to_change_it() -> None:
    made = several(soup=0.93, grown=0.9, member=0.88, shrunk=0.89)
    found = averaging_regularises(rows.frame(made), margin=0.005)
    # (0.03 + 0.01) / 2, and half of what the soups were shifted by: 0.0025 in the pool of four subsets.
    pools = [0.02 + shift / 2 for shift in (0.0025, 0.002, 0.003, 0.004)]
    assert found.estimate.estimate == pytest.approx(np.mean(pools))
    assert found.estimate.se == pytest.approx(np.std(pools, ddof=1) / 2)
    assert (found.estimate.verdict, found.expected) == ("beyond the margin", "above")
    without = averaging_regularises(rows.frame(several(soup=0.93, grown=0.93, member=0.88, shrunk=0.88)), margin=0.005)
    assert without.estimate.verdict == "equivalent"


def test_subsets_without_all_arms_are_left_out_and_counted() -> None:
    made = several(soup=0.93, grown=0.9, member=0.88, shrunk=0.89)
    plain = rows.candidate(1, (2, 3), "uniform_soup", accuracy=0.1)
    drop = subset(1, (1, 2), soup=0.1)
    drop[1] |= {"status": "non_finite", "accuracy": None}
    arms, warnings = norm_arms(rows.frame([*made, plain, *drop]))
    assert len(arms) == 7
    assert warnings == ("1 subset left out: an arm is missing or not ok",)
    with pytest.raises(NothingToDrawError, match="`norm_matched`"):
        norm_arms(rows.frame([one for one in made if one["scaling"] == "none"]))
    broken = [one | {"status": "failed"} if one["method"] == "single" else one for one in made]
    with pytest.raises(NothingToDrawError, match="no subset has all arms"):
        norm_arms(rows.frame(broken))
