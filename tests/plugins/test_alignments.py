"""Laws that every alignment in the folder obeys, and weight matching against plain computations and on real members."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sweep.core.permutations import apply_permutation
from sweep.core.registry import Plugin, get_plugin, list_plugins
from sweep.model.layout import flatten_state_dict, make_layout, unflatten_state_dict
from sweep.model.tracing import find_permutations
from tests.helpers import ROOT
from tests.helpers.symmetric import drawn, in_another_order
from tests.helpers.zoo_networks import CLASSES, Case, timm

ALIGNMENTS = [get_plugin("alignments", name) for name in list_plugins("alignments")]
MATCHING = get_plugin("alignments", "weight_matching")


class Network:
    """A network without weights, for which members are drawn and aligned."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.model: nn.Module = case.build().eval()
        self.layout = make_layout(self.model, CLASSES)
        self.permutations = find_permutations(self.model, self.layout, 3, case.size)

    def members(self, count: int) -> Tensor:
        """Members that were never trained, with every number drawn, as rows (members, entries)."""
        models = [drawn(self.case.build(seed=seed), seed) for seed in range(count)]
        return torch.stack([flatten_state_dict(model.state_dict(), self.layout) for model in models])

    def align(self, entry: Plugin, members: Tensor) -> Tensor:
        provided: dict[str, Any] = {"members": members, "model": self.model, "permutations": self.permutations}
        provided["generator"] = torch.Generator().manual_seed(3)
        aligned: Tensor = entry.function(*(provided[need] for need in entry.needs))
        return aligned

    @torch.no_grad()
    def outputs(self, row: Tensor) -> Tensor:
        self.model.load_state_dict(unflatten_state_dict(row, self.layout, {}), strict=False)
        size = self.case.size
        logits: Tensor = self.model(torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1)))
        return logits


CASES = {
    case.architecture: case
    for case in (
        Case("linear", 8),
        Case("mlp", 8, {"hidden": (9, 8)}),
        Case("mlp_bn", 8, {"hidden": (9, 8)}),
        Case("cnn", 8, {"width": 4}),
        timm("test_resnet"),
    )
}


@pytest.fixture(params=ALIGNMENTS, ids=lambda entry: str(entry.name))
def entry(request: pytest.FixtureRequest) -> Plugin:
    value: Plugin = request.param
    return value


@pytest.fixture(scope="module", params=CASES)
def network(request: pytest.FixtureRequest) -> Network:
    return Network(CASES[request.param])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_aligned_members_compute_what_they_did(entry: Plugin, network: Network, count: int) -> None:
    members = network.members(count)
    before = members.clone()
    aligned = network.align(entry, members)
    assert torch.equal(members, before)
    assert (aligned.shape, aligned.dtype) == (members.shape, members.dtype)
    for old, new in zip(members, aligned, strict=True):
        expected = network.outputs(old)
        torch.testing.assert_close(network.outputs(new), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
        assert torch.equal(new.sort().values, old.sort().values)
    assert torch.equal(network.align(entry, members), aligned)


@pytest.mark.parametrize("count", [2, 3])
def test_copies_of_one_member_stay_as_they_are(entry: Plugin, network: Network, count: int) -> None:
    members = network.members(1).expand(count, -1)
    assert torch.equal(network.align(entry, members), members)


@pytest.mark.parametrize("count", [2, 3])
def test_alignment_never_moves_members_apart(entry: Plugin, network: Network, count: int) -> None:
    members = network.members(count)
    parameters = network.layout.n_parameters
    before, after = (each[:, :parameters].double() for each in (members, network.align(entry, members)))
    assert (after - after.mean(0)).square().sum() <= (before - before.mean(0)).square().sum() * (1 + 1e-12)


def test_a_permuted_copy_is_put_back_entry_by_entry(network: Network) -> None:
    """Running statistics included, which take no part in the matching."""
    member = network.members(1)[0]
    copy = in_another_order(member, network.permutations)
    assert torch.equal(copy, member) == (network.case.architecture == "linear")
    aligned = network.align(MATCHING, torch.stack([member, copy]))
    assert torch.equal(aligned, torch.stack([member, member]))


def test_the_second_of_two_goes_to_the_first() -> None:
    network = Network(CASES["mlp"])
    members = network.members(2)
    aligned = network.align(MATCHING, members)
    assert torch.equal(aligned[0], members[0])
    assert not torch.equal(aligned[1], members[1])


def test_members_that_are_not_finite_are_an_error() -> None:
    network = Network(CASES["mlp"])
    members = network.members(2)
    members[1, 5] = float("nan")
    with pytest.raises(ValueError, match="weights that are not finite cannot be matched"):
        network.align(MATCHING, members)


def test_one_hidden_layer_has_the_best_order_of_all() -> None:
    network = Network(Case("mlp", 8, {"hidden": (6,)}))
    (permutation,) = network.permutations
    parameters = network.layout.n_parameters
    first, second = network.members(2)

    def distance(order: tuple[int, ...]) -> float:
        other = second.clone()
        apply_permutation(other, permutation, torch.tensor(order))
        return float((first - other)[:parameters].double().square().sum())

    best = min(distance(order) for order in itertools.permutations(range(6)))
    aligned = network.align(MATCHING, torch.stack([first, second]))
    assert float((aligned[0] - aligned[1])[:parameters].double().square().sum()) == pytest.approx(best, rel=1e-12)


_BITS = """
import torch
from tests.plugins.test_alignments import bits
torch.set_num_threads(1)
print(bits())
"""


def bits() -> str:
    """The hash of three aligned members of a network."""
    network = Network(CASES["cnn"])
    return hashlib.sha256(network.align(MATCHING, network.members(3)).numpy().tobytes()).hexdigest()


def test_another_process_gives_the_same_bits() -> None:
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _BITS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == bits()
