"""Gaussian noise on every trainable tensor."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from sweep.core.weights import TRAINABLE_ROLES, ParameterLayout, Positive

CITES = ()


def noise(
    member: Tensor,
    layout: ParameterLayout,
    generator: torch.Generator,
    *,
    sigma: Positive = 0.1,
    draw: Annotated[int, Ge(0)] = 0,
) -> Tensor:
    """Adds Gaussian noise to each trainable tensor, with `sigma` times the tensor's standard deviation.

    (entries,) -> (entries,). A member gets the same noise in every subset; `draw` numbers repetitions. Tensors of one
    entry do not change.
    """
    noised = member.clone()
    for entry in layout.entries:
        if entry.role in TRAINABLE_ROLES and entry.size > 1:
            tensor = noised[entry.offset : entry.stop]
            drawn = torch.randn(entry.size, generator=generator, dtype=torch.float32).to(member.device)
            tensor += sigma * tensor.std() * drawn
    return noised
