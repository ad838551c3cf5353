"""Operations of a forward pass: by hand, under control flow, and none where they cannot be counted."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sweep.core.registry import get_plugin, list_plugins
from sweep.model.build import build
from sweep.model.flops import forward_flops


def test_forward_flops_by_hand() -> None:
    linear, cnn, vit = (get_plugin("architectures", name).function for name in ("linear", "cnn", "vit_tiny"))
    assert forward_flops(build(linear, (10, 1, 8), 0), torch.zeros(1, 1, 8, 8)) == 2 * 64 * 10
    pixels = torch.zeros(1, 3, 32, 32)
    convolutions = 2 * 9 * (3 * 32 * 32**2 + 32 * 64 * 16**2 + 64 * 128 * 8**2)
    assert forward_flops(build(cnn, (10, 3, 32), 0), pixels) == convolutions + 2 * (2048 * 256 + 256 * 10)
    tokens = 65
    width = 192
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


class Mirrored(nn.Module):
    """An operation without a formula of ours that multiplies: a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 2, groups=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.up(images)  # type: ignore[no-any-return]


def torchs(model: nn.Module, images: Tensor) -> int:
    """What torch counts."""
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(images)
    return int(counter.get_total_flops())


@pytest.mark.parametrize(
    "name", [name for name in list_plugins("architectures") if name not in ("timm", "torchvision")]
)
def test_operations_of_every_architecture_are_what_torch_counts(name: str) -> None:
    model = build(get_plugin("architectures", name).function, (7, 3, 32), 0)
    pixels = torch.zeros(2, 3, 32, 32)
    assert forward_flops(model, pixels) == torchs(model, pixels) > 0


def test_operations_without_a_formula_of_ours_are_counted_by_torch() -> None:
    pixels = torch.zeros(2, 3, 5, 5)
    assert forward_flops(Mirrored(), pixels) == torchs(Mirrored(), pixels) == 2 * 2 * 3 * 25 * 4 * 4


def test_counting_operations_does_without_the_compiler() -> None:
    code = (
        "import sys, torch; from sweep.model.flops import forward_flops; from sweep.model.build import build;"
        "from sweep.core.registry import get_plugin; cnn = get_plugin('architectures', 'cnn').function;"
        "cnn = build(cnn, (10, 3, 32), 0);"
        "print(forward_flops(cnn, torch.zeros(1, 3, 32, 32)) > 0, {'torch._dynamo', 'triton'} & sys.modules.keys())"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "True set()\n"


def test_operations_that_cannot_be_counted_are_none() -> None:
    assert forward_flops(nn.Flatten(), torch.zeros(1, 1, 4, 4)) is None
    assert forward_flops(nn.Linear(3, 2), torch.zeros(1, 1, 4, 4)) is None, "it takes no such image"
