"""The multi-layer perceptron of arXiv 2411.09263's experiments."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Len
from torch import Tensor, nn

from sweep.weights import Probability

Width = Annotated[int, Ge(1)]


class MLP(nn.Module):
    """Flattened pixels -> hidden layers with ReLU -> head; dropout after the first three."""

    def __init__(self, sizes: list[int], dropout: float, bias: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for depth, (inputs, outputs) in enumerate(pairwise(sizes[:-1])):
            layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if depth < 3 else []
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias=bias))

    def forward(self, images: Tensor) -> Tensor:
        """(examples, channels, size, size) -> (examples, classes)."""
        logits: Tensor = self.layers(images.flatten(1))
        return logits


def mlp(
    classes: int,
    channels: int,
    size: int,
    *,
    hidden: Annotated[tuple[Width, ...], Len(1)] = (512, 256, 128, 64),
    dropout: Probability = 0.5,
    bias: bool = True,
) -> nn.Module:
    """Multi-layer perceptron with ReLU; at its defaults the sizes and names of the paper's script (2411.09263)."""
    return MLP([channels * size * size, *hidden, classes], dropout, bias)
