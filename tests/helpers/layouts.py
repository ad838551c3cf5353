"""Layouts of networks that are known by their tensors alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sweep.core.weights import ParameterLayout, TensorSpec


def layout_of(state: Mapping[str, Tensor], tied: Mapping[str, str] | None = None) -> ParameterLayout:
    """The layout of a network with these tensors, all of them weights; `tied` maps further names to some of them."""
    entries: list[TensorSpec] = []
    for name, tensor in state.items():
        if tensor.is_floating_point():
            offset = entries[-1].stop if entries else 0
            entries.append(TensorSpec(name, tuple(tensor.shape), "weight", offset))
    counters = tuple(name for name, tensor in state.items() if not tensor.is_floating_point())
    return ParameterLayout(tuple(entries), counters, tuple((tied or {}).items()))
