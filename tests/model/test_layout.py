"""Laws of every architecture of the house, and of layouts."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sweep.core.registry import get_plugin
from sweep.core.state_dict import state_dict_mismatches
from sweep.model.build import build
from sweep.model.forward import forward_split
from sweep.model.layout import (
    bind_flat,
    find_head,
    flatten_state_dict,
    make_layout,
    unflatten_state_dict,
)
from sweep.model.split import Batching, DeviceSplit
from tests.helpers.networks import ARCHITECTURES, SHAPE, models


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
    found = forward_split(model, split, Batching(2), head)
    assert found.features is not None
    assert found.logits.shape == (5, 7)
    with torch.inference_mode():
        torch.testing.assert_close(head(found.features), found.logits)


def test_rows_and_state_dicts_are_the_same_thing(model: nn.Module) -> None:
    layout = make_layout(model, 7)
    row = flatten_state_dict(model.state_dict(), layout)
    counters = {name: model.state_dict()[name] for name in layout.counters}
    state = unflatten_state_dict(row, layout, counters)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert state_dict_mismatches(state, layout) == []


def test_writing_the_bound_row_loads_weights(model: nn.Module) -> None:
    other = next(
        m for name, m in models() if type(m) is type(model) and m.state_dict().keys() == model.state_dict().keys()
    )
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9).add_(0.01)
    layout = make_layout(model, 7)
    row = bind_flat(model, layout, torch.device("cpu"))
    row.copy_(flatten_state_dict(other.state_dict(), layout))
    assert torch.equal(model.eval()(images()), other.eval()(images()))


def test_every_tensor_has_its_place(model: nn.Module) -> None:
    layout = make_layout(model, 7)
    assert layout.entries[0].offset == 0
    assert all(a.stop == b.offset for a, b in itertools.pairwise(layout.entries))
    assert layout.n_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert next(e.name for e in layout.entries if e.role == "head").startswith(find_head(model, 7))
    known = {e.name for e in layout.entries} | set(layout.counters) | {name for name, _ in layout.tied}
    assert known == set(model.state_dict())


def test_roles_of_awkward_tensors() -> None:
    layout = make_layout(dict(models())["awkward"], 7)
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
        second = build(entry.function, SHAPE, 5).state_dict()
        other = build(entry.function, SHAPE, 6).state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_papers_networks_have_its_names_and_sizes() -> None:
    shapes = {
        k: tuple(v.shape)
        for k, v in build(get_plugin("architectures", "cnn").function, (10, 3, 32), 0).state_dict().items()
    }
    assert shapes["conv1.weight"] == (32, 3, 3, 3)
    assert shapes["conv3.weight"] == (128, 64, 3, 3)
    assert (shapes["fc1.weight"], shapes["fc2.weight"]) == ((256, 2048), (10, 256))
    layers = build(get_plugin("architectures", "mlp").function, (10, 3, 32), 0).state_dict()
    sizes = {name: tuple(tensor.shape) for name, tensor in layers.items() if name.endswith("weight")}
    expected = {0: (512, 3072), 3: (256, 512), 6: (128, 256), 9: (64, 128), 11: (10, 64)}
    assert sizes == {f"layers.{place}.weight": shape for place, shape in expected.items()}


@pytest.mark.parametrize("size", [8, 17, 32])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_cnn_pools_after_its_relu_to_the_last_bit(size: int, order: torch.memory_format) -> None:
    model = build(get_plugin("architectures", "cnn").function, (7, 3, size), 0, width=4, dropout=0)
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
