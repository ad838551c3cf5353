"""Which units of a network can change places: laws over architectures, specs by hand, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweep.core.permutations import UnitPermutation, coupled_permutations
from sweep.model.build import build
from sweep.model.layout import find_head, make_layout
from sweep.model.tracing import AlignmentError, find_permutations
from tests.helpers.networks import Awkward
from tests.helpers.symmetric import Grown, drawn, shuffled
from tests.helpers.zoo_networks import CLASSES, Case, timm, torchvision

CASES = [
    *(Case(name, 16) for name in ("linear", "mlp", "mlp_bn", "cnn", "resnet18", "densenet121")),
    *(Case("vgg11", settings={"batch_norm": norm}) for norm in (False, True)),
    Case("resnet18", 16, {"stem": "imagenet", "upsample": 32}),
    *(timm(name) for name in ("test_resnet", "convnext_atto", "mobilenetv3_small_100", "resnet26d")),
    torchvision("googlenet"),
]


class Strange(nn.Module):
    """Sums and concatenations of hidden layers, an unused parameter, a constant, and channels last in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(3, 6, 3)
        self.inner = nn.Conv2d(10, 5, 1)
        self.outer = nn.Conv2d(5, 10, 1)
        self.norm = nn.LayerNorm(10)
        self.gain = nn.Parameter(torch.rand(10, 1, 1))
        self.unused = nn.Parameter(torch.rand(4, 5))
        self.register_buffer("scale", torch.rand(10), persistent=False)
        self.hidden = nn.Linear(40, 9)
        self.head = nn.Linear(9, 7)

    def forward(self, images: Tensor) -> Tensor:
        both = torch.cat([self.first(images), self.second(images)], 1)
        maps = both + self.gain * self.outer(self.inner(both).relu())
        maps = functional.adaptive_avg_pool2d(maps, 2).permute(0, 2, 3, 1)
        flat = (self.norm(maps) * 2.0).flatten(1, 2).reshape(len(images), 40)
        logits: Tensor = self.head(self.hidden(flat).relu_())
        return logits


OWN: list[Callable[[], nn.Module]] = [Awkward, Strange]


@pytest.fixture(scope="module", params=[*CASES, *OWN], ids=lambda each: each.__name__ if each in OWN else str(each))
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, int]:
    """A network with weights and statistics drawn at random, and the size of its images."""
    if isinstance(request.param, Case):
        return drawn(request.param.build()), request.param.size
    return drawn(build(lambda *_: request.param(), (CLASSES, 3, 16), 0)), 16


def permutations(model: nn.Module, size: int) -> tuple[UnitPermutation, ...]:
    return find_permutations(model, make_layout(model, CLASSES), 3, size)


def assert_same_outputs(model: nn.Module, size: int, found: tuple[UnitPermutation, ...]) -> None:
    """Outputs stay the same while the units are shuffled, at every place of every permutation."""
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        expected = model(images)
    shuffled(model, found, make_layout(model, CLASSES))
    touched = {place.entry.name for permutation in found if permutation.units > 5 for place in permutation.places}
    assert all(not torch.equal(before[name], tensor) for name, tensor in model.state_dict().items() if name in touched)
    with torch.no_grad():
        torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_outputs_stay_the_same_under_any_permutation(network: tuple[nn.Module, int]) -> None:
    model, size = network
    assert_same_outputs(model, size, permutations(model, size))


def test_any_network_of_known_operations_is_followed_or_refused() -> None:
    followed = []
    refused = []
    for seed in range(40):
        model = drawn(build(lambda *_, seed=seed: Grown(seed), (CLASSES, 3, 8), seed), seed)
        try:
            followed.append(permutations(model, 8))
        except AlignmentError as error:
            refused.append(str(error))
        else:
            assert_same_outputs(model, 8, followed[-1])
    assert sum(len(found) > 2 for found in followed) > 10
    assert all(what.endswith("are the same units") for what in refused)


@pytest.mark.parametrize("case", [each for each in CASES if each.architecture != "timm"], ids=str)
def test_every_hidden_axis_is_permuted(case: Case) -> None:
    """All outputs but the head's and all inputs but the first layer's, of layers one after another."""
    model = case.build()
    layout = make_layout(model, CLASSES)
    head = find_head(model, CLASSES)
    first = next(entry.name for entry in layout.entries if len(entry.shape) > 1)
    hidden = {
        (entry.name, axis): entry.shape[axis]
        for entry in layout.entries
        for axis in range(min(2, len(entry.shape)))
        if (axis or not entry.name.startswith(f"{head}.")) and (not axis or entry.name != first)
    }
    covered: dict[tuple[str, int], int] = {}
    for permutation in permutations(model, case.size):
        for place in permutation.places:
            key = (place.entry.name, place.axis)
            covered[key] = covered.get(key, 0) + place.positions.numel()
    assert covered == hidden


def spec(model: nn.Module, size: int) -> list[dict[tuple[str, int], list[list[int]]]]:
    found = permutations(model, size)
    return [{(place.entry.name, place.axis): place.positions.tolist() for place in each.places} for each in found]


def lone(*axes: tuple[str, int], units: int) -> dict[tuple[str, int], list[list[int]]]:
    return {axis: [[unit] for unit in range(units)] for axis in axes}


def test_the_spec_of_a_perceptron_is_the_one_by_hand() -> None:
    model = Case("mlp_bn", 8, {"hidden": (6, 5)}).build()
    normed = [
        [(f"layers.{layer}.{name}", 0) for name in ("weight", "bias", "running_mean", "running_var")]
        for layer in (1, 5)
    ]
    first = lone(("layers.0.weight", 0), ("layers.0.bias", 0), *normed[0], ("layers.4.weight", 1), units=6)
    second = lone(("layers.4.weight", 0), ("layers.4.bias", 0), *normed[1], ("layers.8.weight", 1), units=5)
    assert spec(model, 8) == [first, second]


def test_the_spec_of_a_convolutional_network_is_the_one_by_hand() -> None:
    last = lone(("conv3.weight", 0), ("conv3.bias", 0), units=8)
    last["fc1.weight", 1] = [list(range(4 * channel, 4 * channel + 4)) for channel in range(8)]  # 2 x 2 pixels each
    assert spec(Case("cnn", 16, {"width": 2}).build(), 16) == [
        lone(("conv1.weight", 0), ("conv1.bias", 0), ("conv2.weight", 1), units=2),
        lone(("conv2.weight", 0), ("conv2.bias", 0), ("conv3.weight", 1), units=4),
        last,
        lone(("fc1.weight", 0), ("fc1.bias", 0), ("fc2.weight", 1), units=16),
    ]


def test_a_stage_of_a_residual_network_has_one_permutation_for_its_sums() -> None:
    found = permutations(Case("resnet18", 16).build(), 16)
    names = [{(place.entry.name, place.axis) for place in each.places if place.is_trainable} for each in found]
    stage = next(each for each in names if ("layer4.0.conv2.weight", 0) in each)
    expected = {("layer4.0.downsample.0.weight", 0), ("layer4.1.conv1.weight", 1), ("layer4.1.conv2.weight", 0)}
    assert expected | {("layer4.1.bn2.weight", 0), ("fc.weight", 1)} <= stage
    assert len(found) == 4 + 8  # stages, and the middle of each block
    assert [len(each) for each in coupled_permutations(found[-2:])] == [1, 1]


def test_what_is_left_of_a_sum_with_parts_moves_within_the_parts() -> None:
    model = Strange()
    found = {tuple(sorted({place.entry.name for place in each.places})): each for each in permutations(model, 16)}
    assert sorted(each.units for each in found.values()) == [4, 5, 6, 9]
    assert not any("unused" in names for names in found)


class Split(Strange):
    """Takes the channels of a map apart, as a shuffle does."""

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.adaptive_avg_pool2d(self.first(images), (2, 5))
        logits: Tensor = self.head(self.hidden(maps.reshape(len(images), 2, 2, 10).transpose(1, 2).flatten(1)))
        return logits


class Choosing(Strange):
    """Looks at numbers to decide what it does."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 0 else -images)


class Looped(Strange):
    """A layer whose inputs are its outputs' units."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed = nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        maps = functional.adaptive_avg_pool2d(maps + self.mixed(maps), (2, 5))
        logits: Tensor = self.head(self.hidden(maps.flatten(1)))
        return logits


REFUSED: list[tuple[Case | Callable[[], nn.Module], str]] = [
    (Case("vit_tiny", 16), "nothing is known of .*`scaled_dot_product_attention`"),
    (Case("vit_b_16", 16), "nothing is known of .*`scaled_dot_product_attention`"),
    (timm("regnetx_002"), "`conv2d` has 3 groups of channels"),
    (torchvision("shufflenet_v2_x0_5"), "nothing is known of `chunk`"),
    (Choosing, "its graph cannot be traced: .*data-dependent control flow"),
    (Looped, "inputs and outputs of `mixed.weight` are the same units"),
    (Split, "`reshape` takes channels apart"),
]


@pytest.mark.parametrize(("case", "what"), REFUSED, ids=str)
def test_what_cannot_be_followed_is_reported(case: Case | Callable[[], nn.Module], what: str) -> None:
    model, size = (case.build(), case.size) if isinstance(case, Case) else (case(), 16)
    with pytest.raises(AlignmentError, match=what) as caught:
        permutations(model, size)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
