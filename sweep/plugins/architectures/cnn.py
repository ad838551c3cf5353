"""SimpleCNN of arXiv 2411.09263: three convolutions and two linear layers."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional

from sweep.core.weights import Probability

CITES = ("wang2024rethinking",)


class SimpleCNN(nn.Module):
    """Three times convolution, ReLU and 2x2 pooling; a hidden linear layer with dropout; the head."""

    def __init__(self, classes: int, channels: int, size: int, width: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.fc1 = nn.Linear(4 * width * (size // 8) ** 2, 8 * width)
        self.fc2 = nn.Linear(8 * width, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """(examples, channels, size, size) -> (examples, classes)."""
        maps = images
        for layer in (self.conv1, self.conv2, self.conv3):
            # ReLU commutes with max pooling: after it, a quarter of the entries are left.
            maps = functional.relu(_max_pool(layer(maps)), inplace=True)
        features = self.dropout(functional.relu(self.fc1(maps.flatten(1)), inplace=True))
        logits: Tensor = self.fc2(features)
        return logits


def _max_pool(maps: Tensor) -> Tensor:
    """2x2 max pooling; on a CPU with channels last, since torch's kernel for the other order takes 8 times as long.

    The order is changed by permutations, since torch.func.vmap does not support memory formats.
    """
    if maps.is_cpu and maps.shape[1] > 1 and maps.stride(1) > 1:
        return functional.max_pool2d(maps.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), 2).contiguous()
    return functional.max_pool2d(maps, 2)


def cnn(
    classes: int,
    channels: int,
    size: Annotated[int, Ge(8)],
    *,
    width: Annotated[int, Ge(1), Le(10_000)] = 32,
    dropout: Probability = 0.5,
) -> nn.Module:
    """Three convolutions, of `width`, 2 `width` and 4 `width` channels, and a hidden layer: SimpleCNN of 2411.09263."""
    if size < 8:
        raise ValueError(f"cnn halves images three times: size {size} is below 8")
    return SimpleCNN(classes, channels, size, width, dropout)
