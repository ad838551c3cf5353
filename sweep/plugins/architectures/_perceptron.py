"""The multi-layer perceptron of arXiv 2411.09263, with or without batch norm."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn

Width = Annotated[int, Ge(1), Le(100_000)]


class MLP(nn.Module):
    """Flattened pixels -> hidden layers with ReLU -> head; dropout after the first three."""

    def __init__(self, sizes: list[int], dropout: float, *, bias: bool = True, batch_norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for depth, (inputs, outputs) in enumerate(pairwise(sizes[:-1])):
            layers += [nn.Linear(inputs, outputs, bias=bias)]
            layers += [nn.BatchNorm1d(outputs), nn.ReLU()] if batch_norm else [nn.ReLU()]
            layers += [nn.Dropout(dropout)] if depth < 3 else []
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias=bias))

    def forward(self, images: Tensor) -> Tensor:
        """(examples, channels, size, size) -> (examples, classes)."""
        logits: Tensor = self.layers(images.flatten(1))
        return logits
