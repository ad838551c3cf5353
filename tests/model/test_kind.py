"""The kind of a network is that of its operations, whatever it is called."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sweep.core.registry import get_plugin
from sweep.model.build import build_on_meta
from sweep.model.kind import network_kind

OF_PROJECT = {
    "linear": "linear",
    "mlp": "mlp",
    "mlp_bn": "mlp",
    "cnn": "cnn",
    "vgg11": "cnn",
    "resnet18": "cnn",
    "resnet50": "cnn",
    "densenet121": "cnn",
    "vit_tiny": "transformer",
    "deit_tiny": "transformer",
}
OF_TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    "vit_tiny_patch16_224": ("transformer", {"depth": 2}),
    "eva02_tiny_patch14_224": ("transformer", {"depth": 2}),
    "xcit_nano_12_p16_224": ("transformer", {"depth": 2}),
    "cait_xxs24_224": ("transformer", {"depth": 2}),
    "pit_ti_224": ("transformer", {}),
    "resnet10t": ("cnn", {}),
    "seresnet18": ("cnn", {}),
    "resnest14d": ("cnn", {}),
    "convnext_atto": ("cnn", {"depths": (1, 1, 1, 1)}),
    "mixer_s32_224": ("mlp", {}),
    "gcresnet33ts": ("hybrid", {}),
}
"""By what they do: `xcit` and `cait` have no `vit` in their names, squeeze-and-excitation is no attention."""


@pytest.mark.parametrize(("name", "kind"), OF_PROJECT.items())
def test_the_architectures_of_the_project(name: str, kind: str) -> None:
    model = build_on_meta(get_plugin("architectures", name).function, (10, 3, 32), {})
    assert network_kind(model, torch.zeros(1, 3, 32, 32, device="meta")) == kind


@pytest.mark.parametrize(("name", "expected"), OF_TIMM.items())
def test_networks_of_timm(name: str, expected: tuple[str, dict[str, Any]]) -> None:
    import timm

    kind, settings = expected
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = timm.create_model(name, **settings)
    assert network_kind(model, torch.zeros(1, 3, 224, 224, device="meta")) == kind


def test_networks_of_torchvision() -> None:
    import torchvision

    images = torch.zeros(1, 3, 224, 224, device="meta")
    with torch.device("meta"):
        models = {"transformer": torchvision.models.vit_b_16(), "cnn": torchvision.models.vgg11()}
    assert {kind: network_kind(model, images) for kind, model in models.items()} == {kind: kind for kind in models}


class Gravity(nn.Module):
    """A network of a user: its name holds `vit`, its layers convolve or attend."""

    def __init__(self, *, attends: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 4, stride=4)
        self.mix = nn.MultiheadAttention(16, 2, batch_first=True) if attends else nn.Conv2d(16, 16, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.patches(images)
        if isinstance(self.mix, nn.MultiheadAttention):
            tokens = maps.flatten(2).transpose(1, 2)
            mixed = self.mix(tokens, tokens, tokens, need_weights=False)[0].mean(1)
        else:
            mixed = self.mix(maps).mean((2, 3))
        logits: Tensor = self.head(self.drop(mixed))
        return logits


@pytest.mark.parametrize(("attends", "kind"), [(True, "transformer"), (False, "cnn")])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_network_of_a_user_is_what_it_does(device: str, attends: bool, kind: str) -> None:
    model = Gravity(attends=attends).to(device).train()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert network_kind(model, torch.zeros(1, 1, 8, 8, device=device)) == kind
    assert torch.equal(torch.rand(3), expected)
    assert all(module.training for module in model.modules())


def test_linear_is_one_layer_whose_outputs_are_linear_in_its_weights() -> None:
    images = torch.zeros(1, 2, 4, 4)
    one = nn.Linear(32, 3)
    assert network_kind(nn.Sequential(nn.Flatten(), one), images) == "linear"
    assert network_kind(nn.Sequential(nn.Flatten(), nn.Linear(32, 3, bias=False)), images) == "linear"
    others = [(nn.Linear(32, 32), one), (one, nn.ReLU()), (nn.LayerNorm(32), one), (nn.Tanh(), one)]
    assert {network_kind(nn.Sequential(nn.Flatten(), *layers), images) for layers in others} == {"mlp"}


def test_a_network_that_fails_has_no_kind_and_one_without_products_is_other() -> None:
    assert network_kind(Gravity(attends=True), torch.zeros(1, 2, 8, 8)) is None
    assert network_kind(nn.Flatten(), torch.zeros(1, 2, 8, 8)) == "other"
