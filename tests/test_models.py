"""Laws of every architecture, of layouts and of blends; and of scalings and metrics."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss
from torch import Tensor, nn
from torch.nn import functional

from sweep.evaluate import DeviceSplit, measure, outputs
from sweep.flops import forward_flops
from sweep.metrics.accuracy import accuracy
from sweep.metrics.ece import ece
from sweep.models import bind, build, differences, find_head, flatten, layout_of, to_state
from sweep.registry import Entry, find, names
from sweep.weights import LEARNABLE, Factors, Layout, blend, combine

ARCHITECTURES = [find("architectures", name) for name in ("cnn", "linear", "mlp", "mlp_bn")]  # the zoo has its own laws
SCALINGS = [find("scalings", name) for name in names("scalings")]
FACTORS = [entry for entry in SCALINGS if entry.hints["return"] is Factors]
PERTURBING = [entry for entry in SCALINGS if entry not in FACTORS]
SHAPE = (7, 3, 16)


class Awkward(nn.Module):
    """Tied weights, batch statistics, a layer norm, a counter and a head without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.again = nn.Conv2d(3, 8, 3, padding=1)
        self.again.weight = self.conv.weight
        self.last = nn.LayerNorm(8)
        self.head = nn.Linear(8, 7, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.conv(images)) + self.again(images)
        logits: Tensor = self.head(self.last(maps.mean((2, 3))))
        return logits


def models() -> list[tuple[str, nn.Module]]:
    return [(e.name, build(e.function, SHAPE, 0)) for e in ARCHITECTURES] + [
        ("awkward", build(lambda *_: Awkward(), SHAPE, 0))
    ]


@pytest.fixture(params=range(len(ARCHITECTURES) + 1), ids=[e.name for e in ARCHITECTURES] + ["awkward"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return models()[request.param][1].eval()


def images(count: int = 5) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_logits_are_the_head_of_the_features(model: nn.Module) -> None:
    split = DeviceSplit(
        (images() * 40 + 128).to(torch.uint8), torch.zeros(5).long(), torch.tensor(128.0), torch.tensor(64.0)
    )
    head = model.get_submodule(find_head(model, 7))
    found = outputs(model, split, 2, head)
    assert found.features is not None
    assert found.logits.shape == (5, 7)
    with torch.inference_mode():
        torch.testing.assert_close(head(found.features), found.logits)


def test_rows_and_state_dicts_are_the_same_thing(model: nn.Module) -> None:
    layout = layout_of(model, 7)
    row = flatten(model.state_dict(), layout)
    counters = {name: model.state_dict()[name] for name in layout.counters}
    state = to_state(row, layout, counters)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert differences(state, layout) == []


def test_writing_the_bound_row_loads_weights(model: nn.Module) -> None:
    other = next(
        m for name, m in models() if type(m) is type(model) and m.state_dict().keys() == model.state_dict().keys()
    )
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9).add_(0.01)
    layout = layout_of(model, 7)
    row = bind(model, layout, torch.device("cpu"))
    row.copy_(flatten(other.state_dict(), layout))
    assert torch.equal(model.eval()(images()), other.eval()(images()))


def test_every_tensor_has_its_place(model: nn.Module) -> None:
    layout = layout_of(model, 7)
    assert layout.entries[0].offset == 0
    assert all(a.stop == b.offset for a, b in itertools.pairwise(layout.entries))
    assert layout.n_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert next(e.name for e in layout.entries if e.role == "head").startswith(find_head(model, 7))
    known = {e.name for e in layout.entries} | set(layout.counters) | {name for name, _ in layout.tied}
    assert known == set(model.state_dict())


def test_roles_of_awkward_tensors() -> None:
    layout = layout_of(dict(models())["awkward"], 7)
    roles = {entry.name: entry.role for entry in layout.entries}
    assert (roles["norm.running_mean"], roles["norm.running_var"]) == ("mean", "variance")
    assert {roles[name] for name in ("norm.weight", "norm.bias", "last.weight", "last.bias")} == {"norm"}
    assert (roles["conv.weight"], roles["conv.bias"], roles["head.weight"]) == ("weight", "bias", "head")
    assert layout.counters == ("norm.num_batches_tracked",)
    assert layout.tied == (("again.weight", "conv.weight"),)
    assert layout.head[1] is None


def test_initial_weights_come_from_the_seed() -> None:
    for entry in ARCHITECTURES:
        torch.manual_seed(0)
        first = build(entry.function, SHAPE, 5).state_dict()
        torch.manual_seed(1)
        second, other = build(entry.function, SHAPE, 5).state_dict(), build(entry.function, SHAPE, 6).state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_papers_networks_have_its_names_and_sizes() -> None:
    shapes = {
        k: tuple(v.shape) for k, v in build(find("architectures", "cnn").function, (10, 3, 32), 0).state_dict().items()
    }
    assert shapes["conv1.weight"] == (32, 3, 3, 3)
    assert shapes["conv3.weight"] == (128, 64, 3, 3)
    assert (shapes["fc1.weight"], shapes["fc2.weight"]) == ((256, 2048), (10, 256))
    layers = build(find("architectures", "mlp").function, (10, 3, 32), 0).state_dict()
    sizes = {name: tuple(tensor.shape) for name, tensor in layers.items() if name.endswith("weight")}
    expected = {0: (512, 3072), 3: (256, 512), 6: (128, 256), 9: (64, 128), 11: (10, 64)}
    assert sizes == {f"layers.{place}.weight": shape for place, shape in expected.items()}


def awkward_layout() -> Layout:
    return layout_of(dict(models())["awkward"], 7)


def test_forward_flops_by_hand() -> None:
    linear, cnn, vit = (find("architectures", name).function for name in ("linear", "cnn", "vit_tiny"))
    assert forward_flops(build(linear, (10, 1, 8), 0), torch.zeros(1, 1, 8, 8)) == 2 * 64 * 10
    pixels = torch.zeros(1, 3, 32, 32)
    convolutions = 2 * 9 * (3 * 32 * 32**2 + 32 * 64 * 16**2 + 64 * 128 * 8**2)
    assert forward_flops(build(cnn, (10, 3, 32), 0), pixels) == convolutions + 2 * (2048 * 256 + 256 * 10)
    tokens, width = 65, 192
    block = tokens * 12 * width**2 + 2 * tokens**2 * width  # query to value, output and hidden layer; attention
    patches = 64 * 3 * 4**2 * width
    assert forward_flops(build(vit, (10, 3, 32), 0), pixels) == 2 * (12 * block + patches + width * 10)


def test_counting_operations_leaves_a_network_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert forward_flops(model.train(), torch.ones(1, 1, 3, 3)) == 2 * 9 * 2
    assert torch.equal(torch.rand(3), expected)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Forked(nn.Module):
    """Control flow on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cond(images.sum() > 0, self.head, lambda flat: -self.head(flat), (images.flatten(1),))  # type: ignore[no-any-return]


def test_operations_under_control_flow_are_counted() -> None:
    assert forward_flops(Forked(), torch.ones(1, 1, 4, 4)) == 2 * 16 * 4


def test_counting_operations_does_without_the_compiler() -> None:
    code = (
        "import sys, torch; from sweep.flops import forward_flops; from sweep.models import build;"
        "from sweep.registry import find; cnn = build(find('architectures', 'cnn').function, (10, 3, 32), 0);"
        "print(forward_flops(cnn, torch.zeros(1, 3, 32, 32)) > 0, 'torch._dynamo' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "True False\n"


def test_operations_that_cannot_be_counted_are_none() -> None:
    assert forward_flops(nn.Flatten(), torch.zeros(1, 1, 4, 4)) is None
    assert forward_flops(nn.Linear(3, 2), torch.zeros(1, 1, 4, 4)) is None, "it takes no such image"


@pytest.mark.parametrize("size", [8, 17, 32])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_cnn_pools_after_its_relu_to_the_last_bit(size: int, order: torch.memory_format) -> None:
    model = build(find("architectures", "cnn").function, (7, 3, size), 0, width=4, dropout=0)
    pixels = torch.randn(6, 3, size, size, generator=torch.Generator().manual_seed(1)).to(memory_format=order)

    def as_published(images: Tensor) -> Tensor:
        for layer in (model.conv1, model.conv2, model.conv3):
            images = functional.max_pool2d(functional.relu(layer(images)), 2)
        return model.fc2(functional.relu(model.fc1(images.flatten(1))))

    found = []
    for forward in (model, as_published):
        logits = forward(pixels)
        found.append((logits, *torch.autograd.grad(logits.square().sum(), list(model.parameters()))))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_statistics_take_convex_shares_and_stay_positive() -> None:
    layout = awkward_layout()
    merge = blend(layout, (0, 1), (1.5, -0.5), torch.ones(2, len(layout.entries)))
    matrix = torch.rand(2, layout.n_entries, generator=torch.Generator().manual_seed(0)) + 0.1
    merged = combine(matrix, merge, torch.empty(layout.n_entries))
    torch.testing.assert_close(
        merged[: layout.n_parameters], (1.5 * matrix[0] - 0.5 * matrix[1])[: layout.n_parameters]
    )
    for entry in layout.entries:
        if entry.role not in LEARNABLE:
            torch.testing.assert_close(merged[entry.offset : entry.stop], matrix[0, entry.offset : entry.stop])


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=4), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_blends_are_the_sums_that_they_say(coefficients: list[float], seed: int) -> None:
    layout = awkward_layout()
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(len(coefficients), layout.n_entries, generator=generator)
    factors = torch.rand(len(coefficients), len(layout.entries), generator=generator, dtype=torch.float64)
    merged = combine(
        matrix, blend(layout, range(len(coefficients)), coefficients, factors), torch.empty(layout.n_entries)
    )
    for column, entry in enumerate(layout.entries):
        if entry.role in LEARNABLE:
            shares = torch.tensor(coefficients, dtype=torch.float64) * factors[:, column]
            expected = (shares[:, None] * matrix[:, entry.offset : entry.stop].double()).sum(0)
            torch.testing.assert_close(merged[entry.offset : entry.stop].double(), expected, atol=1e-5, rtol=1e-5)


def test_a_larger_pool_changes_no_bit() -> None:
    layout = awkward_layout()
    matrix = torch.randn(9, layout.n_entries, generator=torch.Generator().manual_seed(1))
    ones = torch.ones(2, len(layout.entries))
    small = combine(matrix[:3], blend(layout, (0, 2), (0.5, 0.5), ones), torch.empty(layout.n_entries))
    large = combine(matrix, blend(layout, (0, 2), (0.5, 0.5), ones), torch.empty(layout.n_entries))
    assert torch.equal(small, large)


@pytest.mark.parametrize("entry", PERTURBING, ids=lambda e: str(e.name))
def test_perturbing_scalings_change_learnable_tensors_of_a_copy(entry: Entry) -> None:
    layout = awkward_layout()
    member = torch.randn(layout.n_entries, generator=torch.Generator().manual_seed(1))
    before = member.clone()
    one, other, again = (entry.function(member, layout, torch.Generator().manual_seed(seed)) for seed in (3, 4, 3))
    assert torch.equal(member, before)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    changed = {e.role for e in layout.entries if not torch.equal(one[e.offset : e.stop], member[e.offset : e.stop])}
    assert changed <= set(LEARNABLE)
    assert torch.isfinite(one).all()


def test_noise_is_relative_to_the_spread_of_each_tensor() -> None:
    layout = awkward_layout()
    member = torch.randn(layout.n_entries, generator=torch.Generator().manual_seed(1))
    noised = find("scalings", "noise").function(member, layout, torch.Generator().manual_seed(3), sigma=0.5)
    generator = torch.Generator().manual_seed(3)
    for entry in layout.entries:
        if entry.role in LEARNABLE and entry.size > 1:
            piece = member[entry.offset : entry.stop]
            drawn = torch.empty(entry.size).normal_(generator=generator)
            torch.testing.assert_close(
                noised[entry.offset : entry.stop], piece + 0.5 * np.std(piece.numpy(), ddof=1) * drawn
            )


@pytest.mark.parametrize("entry", FACTORS, ids=lambda e: str(e.name))
def test_scalings_give_a_factor_per_member_and_tensor(entry: Entry) -> None:
    layout = awkward_layout()
    for count in (1, 2, 5):
        members = torch.randn(count, layout.n_entries, generator=torch.Generator().manual_seed(count))
        before, brought = members.clone(), {"count": count, "layout": layout, "members": members}
        factors = entry.function(*(brought[need] for need in entry.needs))
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
        ("parameters", set(LEARNABLE)),
        ("all", {"weight", "bias", "norm", "head", "mean", "variance"}),
        ("weights", {"weight", "head"}),
        ("head", {"head"}),
        ("layer:0", {"weight", "bias"}),
        ("norm.*", {"norm", "mean", "variance"}),
    ],
)
def test_magnify_reaches_the_tensors_that_it_says(tensors: str, chosen: set[str]) -> None:
    layout = awkward_layout()
    factors = find("scalings", "magnify").function(2, layout, factor=3.0, tensors=tensors)
    scaled = {entry.role for entry, factor in zip(layout.entries, factors[0].tolist(), strict=True) if factor == 3.0}
    assert scaled == chosen


def drawn(examples: int = 400, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(examples, classes, generator=generator, dtype=torch.float64) * 2
    return logits, torch.randint(classes, (examples,), generator=generator)


def test_metrics_against_scikit_learn() -> None:
    logits, labels = drawn()
    found = measure(logits, labels, names("metrics"))
    probabilities = logits.softmax(-1).numpy()
    assert found["cross_entropy"] == pytest.approx(log_loss(labels, probabilities), rel=1e-12)
    assert found["accuracy"] == float((probabilities.argmax(1) == labels.numpy()).mean())
    by_class = [brier_score_loss(labels.numpy() == c, probabilities[:, c]) for c in range(4)]
    assert found["brier"] == pytest.approx(sum(by_class), rel=1e-12)


def test_ece_against_a_loop_over_bins() -> None:
    logits, labels = drawn(examples=450)
    probabilities = logits.softmax(-1)
    confidence, predicted = probabilities.max(1)
    order = np.argsort(confidence.numpy(), kind="stable")
    right = (predicted == labels).numpy()[order]
    expected = sum(
        abs(right[part].mean() - confidence.numpy()[order][part].mean()) * len(part) / 450
        for part in np.split(np.arange(450), 15)
    )
    assert ece(probabilities, labels) == pytest.approx(expected, rel=1e-12)


def test_equal_confidences_share_a_bin() -> None:
    """With one bin of ten each, the order of ties would decide."""
    labels = torch.tensor([0, 1] * 150)
    probabilities = torch.tensor([[0.6, 0.4]], dtype=torch.float64).expand(300, 2)
    assert ece(probabilities, labels) == pytest.approx(0.1)


@pytest.mark.parametrize("name", names("metrics"))
def test_the_order_of_examples_changes_no_metric(name: str) -> None:
    logits, labels = drawn()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(4))
    first, second = measure(logits, labels, [name]), measure(logits[order], labels[order], [name])
    assert first[name] == pytest.approx(second[name], rel=1e-12)


def test_the_lower_class_wins_a_tie() -> None:
    assert accuracy(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2])) == 0.5
