"""Networks with every number drawn, and the same networks with their units in another order."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor, nn

from sweep.core.permutations import UnitPermutation, apply_permutation
from sweep.core.weights import ParameterLayout
from sweep.model.layout import flatten_state_dict, unflatten_state_dict

_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "mul": torch.mul,
    "cat": lambda one, other: torch.cat([one, other], 1),
}


class Grown(nn.Module):
    """Twelve random steps on maps of one size, each from any maps before it; then two linear layers."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = Random(seed)
        widths = [3]
        self.layers = nn.ModuleList()
        self.steps = list[tuple[str, int, int]]()
        for _ in range(12):
            kind = random.choice(["conv", "conv", "own", "norm", "relu", *_TWO])
            one = random.randrange(len(widths))
            alike = [place for place, width in enumerate(widths) if kind == "cat" or width == widths[one]]
            self.steps.append((kind, one, random.choice(alike)))
            width = widths[one]
            out = random.randint(2, 6)
            self.layers.append(
                {
                    "conv": nn.Conv2d(width, out, 3, padding=1),
                    "own": nn.Conv2d(width, width, 3, padding=1, groups=width),
                    "norm": nn.BatchNorm2d(width),
                    "relu": nn.ReLU(),
                }.get(kind, nn.Identity())
            )
            widths.append(out if kind == "conv" else width + widths[self.steps[-1][2]] if kind == "cat" else width)
        self.hidden = nn.Linear(16 * sum(widths[-4:]), 5)
        self.head = nn.Linear(5, 7)

    def forward(self, images: Tensor) -> Tensor:
        maps = [images]
        for layer, (kind, one, other) in zip(self.layers, self.steps, strict=True):
            maps.append(_TWO[kind](maps[one], maps[other]) if kind in _TWO else layer(maps[one]))
        last = nn.functional.adaptive_avg_pool2d(torch.cat(maps[-4:], 1), 4)
        logits: Tensor = self.head(self.hidden(last.flatten(1)).tanh())
        return logits


@torch.no_grad()
def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode, with biases, norms and running statistics that differ from unit to unit."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith(("var", "weight")) and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.normal_(0, 0.3, generator=generator)
    return model.eval()


def in_another_order(row: Tensor, permutations: tuple[UnitPermutation, ...], seed: int = 0) -> Tensor:
    """Weights (entries,) with all units shuffled."""
    generator = torch.Generator().manual_seed(seed)
    row = row.clone()
    for permutation in permutations:
        apply_permutation(row, permutation, torch.randperm(permutation.units, generator=generator))
    return row


@torch.no_grad()
def shuffled(model: nn.Module, permutations: tuple[UnitPermutation, ...], layout: ParameterLayout) -> None:
    """Put the units of a model into another order, in place."""
    row = in_another_order(flatten_state_dict(model.state_dict(), layout), permutations)
    for name, tensor in unflatten_state_dict(row, layout, {}).items():
        model.state_dict()[name].copy_(tensor)
