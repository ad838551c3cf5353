"""Methods one by one: exact checks against independent computations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from sweep.core.registry import get_plugin
from sweep.core.weights import Heads, ParameterLayout
from sweep.core.weights import TensorSpec as Columns
from sweep.plugins.methods.best_member import best_member
from sweep.plugins.methods.feature_average import feature_average
from sweep.plugins.methods.greedy_ensemble import greedy_ensemble
from sweep.plugins.methods.greedy_entering import greedy_entering
from sweep.plugins.methods.greedy_halving import greedy_halving
from sweep.plugins.methods.greedy_indexed import greedy_indexed
from sweep.plugins.methods.greedy_soup import greedy_soup
from sweep.plugins.methods.interpolation import interpolation
from sweep.plugins.methods.logit_average import logit_average
from sweep.plugins.methods.plane import plane
from sweep.plugins.methods.probability_average import probability_average
from sweep.plugins.methods.published_mixup import published_mixup
from sweep.plugins.methods.single import single
from sweep.plugins.methods.uniform_soup import uniform_soup
from tests.helpers.provided import provided, score


def test_uniform_soup_is_the_mean() -> None:
    members = torch.tensor([[1.0, 2.0], [3.0, -6.0], [5.0, 1.0]])
    assert uniform_soup(members).tolist() == [3.0, -1.0]


@pytest.mark.parametrize(("weight", "expected"), [(0, [1.0, 2.0]), (0.25, [1.5, 0.0]), (1, [3.0, -6.0])])
def test_interpolation_is_a_straight_line(weight: float, expected: list[float]) -> None:
    assert interpolation(torch.tensor([[1.0, 2.0], [3.0, -6.0]]), weight=weight).tolist() == expected


def by_hand(table: dict[frozenset[int], float], members: Tensor) -> Callable[[Tensor], float]:
    """A score that is looked up by which members are in a mean."""
    return lambda weights: table[frozenset((weights > 0).nonzero()[:, 0].tolist())]


@pytest.mark.parametrize(
    ("alone", "with_others", "kept"),
    [
        ([0.5, 0.9, 0.7], {(1, 2): 0.95, (0, 1, 2): 0.96}, {0, 1, 2}),
        ([0.5, 0.9, 0.7], {(1, 2): 0.9, (0, 1): 0.91}, {0, 1}),  # no gain is no reason to be kept
        ([0.9, 0.9, 0.1], {(0, 1): 0.8, (0, 2): 0.1}, {0}),  # members that tie keep their order
    ],
)
def test_greedy_soup_follows_wortsman(
    alone: list[float], with_others: dict[tuple[int, ...], float], kept: set[int]
) -> None:
    members = torch.eye(3)
    table = {frozenset({i}): value for i, value in enumerate(alone)}
    table |= {frozenset(group): value for group, value in with_others.items()}
    soup = greedy_soup(members, by_hand(table, members))
    assert set(soup.nonzero()[:, 0].tolist()) == kept
    torch.testing.assert_close(soup.as_subclass(Tensor), members[sorted(kept)].mean(0))


def test_greedy_soup_keeps_members_that_tie_where_asked() -> None:
    members = torch.eye(3)
    table = {frozenset({0}): 0.5, frozenset({1}): 0.9, frozenset({2}): 0.7}
    table |= {frozenset({1, 2}): 0.9, frozenset({0, 1, 2}): 0.8, frozenset({0, 1}): 0.1}
    score = by_hand(table, members)
    assert greedy_soup(members, score, ties="keep").tolist() == [0.0, 0.5, 0.5]
    assert greedy_soup(members, score).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("alone", "best"), [([0.5, 0.9, 0.7], 1), ([0.9, 0.3, 0.9], 0), ([float("-inf"), float("-inf"), 0.1], 2)]
)
def test_the_best_member_is_one_member_as_it_is(alone: list[float], best: int) -> None:
    members = torch.eye(3)
    found = best_member(members, by_hand({frozenset({i}): value for i, value in enumerate(alone)}, members))
    assert torch.equal(found.as_subclass(Tensor), members[best])


def test_greedy_halving_halves_what_it_has() -> None:
    table = {(1.0, 0.0, 0.0): 0.5, (0.0, 1.0, 0.0): 0.9, (0.0, 0.0, 1.0): 0.7}
    table |= {(0.5, 0.5, 0.0): 0.95, (0.25, 0.75, 0.0): 0.95, (0.25, 0.25, 0.5): 0.96}
    soup = greedy_halving(torch.eye(3), lambda weights: table[tuple(weights.tolist())])
    # From member 1; member 0 helps, member 1 again only ties, member 2 helps.
    assert soup.tolist() == [0.25, 0.25, 0.5]


def test_greedy_entering_scales_members_as_they_enter() -> None:
    """Coordinates 0 to 2 are scaled members, 3 to 5 the same unscaled."""
    basis = torch.eye(6)
    alone = {(3,): 0.5, (4,): 0.9, (5,): 0.7}
    tried = {(0, 4): 0.8, (1, 4): 0.8, (2, 4): 0.95}

    def looked_up(weights: Tensor) -> float:
        return (alone | tried)[tuple(weights.nonzero()[:, 0].tolist())]

    soup = greedy_entering(basis[:3], basis[3:], looked_up)
    assert soup.tolist() == [0, 0, 0.5, 0, 0.5, 0]
    tried[2, 4] = 0.9
    # What is scaled does not beat what is not: the best unscaled member comes out.
    assert greedy_entering(basis[:3], basis[3:], looked_up).tolist() == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_greedy_entering_is_greedy_halving_where_nothing_is_scaled(count: int) -> None:
    members = provided(get_plugin("methods", "greedy_halving"), count)["members"]
    assert torch.equal(greedy_entering(members, members, score), greedy_halving(members, score))


def test_greedy_indexed_divides_by_position_not_by_count() -> None:
    table = {(1.0, 0.0, 0.0): 0.5, (0.5, 0.5, 0.0): 0.4, (0.67, 0.0, 0.33): 0.6}
    soup = greedy_indexed(torch.eye(3), lambda weights: table[tuple(round(w, 2) for w in weights.tolist())])
    # The second is rejected and still counted: 2/3 and 1/3 where a mean would have halves.
    torch.testing.assert_close(soup.as_subclass(Tensor), torch.tensor([2 / 3, 0, 1 / 3]))


@pytest.mark.parametrize("space", ["logits", "features"])
def test_greedy_ensemble_averages_what_greedy_indexed_accepts(space: Literal["logits", "features"]) -> None:
    values = provided(get_plugin("methods", "greedy_ensemble"), 3)
    table = {(1.0, 0.0, 0.0): 0.5, (0.5, 0.5, 0.0): 0.4, (0.67, 0.0, 0.33): 0.6}
    values |= {"members": torch.eye(3), "score": lambda row: table[tuple(round(w, 2) for w in row.tolist())]}
    found = greedy_ensemble(**values, space=space)
    if space == "logits":
        expected = (values["logits"][0] + values["logits"][2]) / 2
    else:
        weight, bias = (part[0] / 2 + part[2] / 2 for part in values["heads"])
        expected = (values["features"][0] + values["features"][2]) / 2 @ weight.T + bias
    torch.testing.assert_close(found, expected)


def test_output_averages_by_hand() -> None:
    logits = torch.tensor([[[0.0, 2.0]], [[4.0, 0.0]]], dtype=torch.float64)
    assert logit_average(logits).tolist() == [[2.0, 1.0]]
    probabilities = probability_average(logits).exp()
    expected = (logits[0].softmax(-1) + logits[1].softmax(-1)) / 2
    torch.testing.assert_close(probabilities, expected)


def test_feature_average_with_equal_heads_is_logit_average() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(1, 4, 5, generator=generator, dtype=torch.float64).expand(3, 4, 5)
    bias = torch.randn(1, 4, generator=generator, dtype=torch.float64).expand(3, 4)
    logits = torch.einsum("mef,mcf->mec", features, weight) + bias[:, None]
    heads = Heads(weight, bias)
    torch.testing.assert_close(feature_average(features, heads, head="first"), logit_average(logits))
    torch.testing.assert_close(feature_average(features, heads, head="average"), logit_average(logits))


def test_single_is_the_member_itself() -> None:
    assert single(torch.tensor([[1.0, 2.0]])).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(0, 0, [1.0, 0]), (1, 0, [0, 1.0]), (0, 1, [3.0, 3.0]), (0.5, -0.5, [-0.5, -1.0])]
)
def test_a_plane_goes_through_its_three_members(a: float, b: float, expected: list[float]) -> None:
    assert plane(torch.tensor([[1.0, 0], [0, 1.0], [3.0, 3.0]]), a=a, b=b).tolist() == expected


def test_the_published_mixup_mixes_rows_of_the_head_and_nothing_else() -> None:
    layout = ParameterLayout(
        (Columns("a", (2,), "weight", 0), Columns("w", (3, 2), "head", 2), Columns("b", (3,), "head", 8)), (), ()
    )
    member = torch.tensor([[7.0, 8.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 10.0, 20.0]])
    found = published_mixup(member, layout, share=0.25, apart=1).tolist()
    assert found == [7.0, 8.0, 1.5, 2.5, 3.5, 4.5, 4.0, 5.0, 2.5, 12.5, 15.0]
    assert published_mixup(member, layout, apart=3).tolist() == member[0].tolist()
