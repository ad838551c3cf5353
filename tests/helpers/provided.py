"""What an engine would bring to a method, from a seed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sweep.core.registry import Plugin
from sweep.core.weights import Heads, ParameterLayout
from sweep.core.weights import TensorSpec as Columns

ENTRIES = (
    Columns("a", (6, 5), "weight", 0),
    Columns("k", (4, 3, 2, 2), "weight", 30),
    Columns("n", (4,), "norm", 78),
    Columns("b", (2, 4), "head", 82),
    Columns("c", (2,), "head", 90),
)
LAYOUT = ParameterLayout(ENTRIES, (), ())


def score(weights: Tensor) -> float:
    """An accuracy that depends on the weights and has many ties."""
    return float(torch.round(weights.double().sum() * 4) % 7) / 7


def provided(entry: Plugin, count: int, *, same: bool = False, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """What an engine would bring, from a seed."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        one = torch.randn(*shape[1:], generator=generator, dtype=torch.float64)
        many = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return (one.expand(shape).clone() if same else many).to(dtype)

    members = draw(count, LAYOUT.n_entries)
    everything: dict[str, Any] = {
        "members": members,
        "unscaled": members.clone(),
        "base": draw(1, LAYOUT.n_entries)[0],
        "score": score,
        "layout": LAYOUT,
        "logits": draw(count, 6, 4),
        "features": draw(count, 6, 5),
        "heads": Heads(draw(count, 4, 5), draw(count, 4)),
        "generator": torch.Generator().manual_seed(9),
        "record": lambda coefficients: None,
    }
    return {need: everything[need] for need in entry.needs}
