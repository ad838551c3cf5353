"""Merges whose coefficients depend on the angles between members."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sweep.core.weights import ParameterLayout
from sweep.plugins.methods._task_vectors import columns_of, learnable


def ranges_of(layout: ParameterLayout, scope: str) -> list[slice]:
    """The columns of each learnable tensor, or all of them as one range for the scope `global`."""
    return [slice(0, layout.n_parameters)] if scope == "global" else [columns_of(entry) for entry in learnable(layout)]


def combine(members: Tensor, ranges: Sequence[slice], coefficients: Sequence[Tensor]) -> Tensor:
    """Σ coefficient × member over ranges of columns that cover members (members, parameters); (parameters,)."""
    merged = torch.zeros_like(members[0])
    for columns, shares in zip(ranges, coefficients, strict=True):
        target = merged[columns]
        for member, share in zip(members, shares.tolist(), strict=True):
            target.add_(member[columns], alpha=share)
    return merged
