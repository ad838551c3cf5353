"""Compares state dicts with the layout of a network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sweep.core.text import printable
from sweep.core.weights import ParameterLayout, TensorSpec


def state_dict_mismatches(state: Mapping[str, Tensor], layout: ParameterLayout) -> list[str]:
    """Mismatches of a state dict to a layout: missing and unknown tensors, other shapes, types, broken ties."""
    return list(itertools.chain(*_mismatches(state, layout)))


def mismatch_text(state: Mapping[str, Tensor], layout: ParameterLayout, limit: int = 3) -> str:
    """The first mismatches of every kind, and how many more there are; empty if the state dict fits."""
    kinds = _mismatches(state, layout)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*kinds))
    shown = set(itertools.islice(filter(None, turns), limit))
    every = list(itertools.chain(*kinds))
    more = f" (and {len(every) - len(shown)} more)" if len(every) > len(shown) else ""
    return "; ".join(problem for problem in every if problem in shown) + more


def _mismatches(state: Mapping[str, Tensor], layout: ParameterLayout) -> Sequence[list[str]]:
    """The mismatches by kind."""
    expected = {e.name: e.shape for e in layout.entries}
    known = expected.keys() | set(layout.counters) | {name for name, _ in layout.tied}
    missing = [f"`{name}` is missing" for name in expected if name not in state]
    unknown = [f"`{name}` is unknown" for name in state if name not in known]
    shaped = [
        f"`{name}` has shape {tuple(state[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    not_floats = [
        f"`{name}` is {state[name].dtype}" for name in expected if name in state and not state[name].is_floating_point()
    ]
    untied = [
        f"`{name}` differs from `{source}`, but the network has one tensor for both"
        for name, source in layout.tied
        if _differ(state.get(name), state.get(source))
    ]
    return missing, unknown, shaped, not_floats, untied


def non_finite_text(state: Mapping[str, Tensor], layout: ParameterLayout) -> str:
    """The first tensor with values that are not finite in float32, with their count; empty if there is none.

    `state` fits the layout and is float32. A buffer may be infinite, as masks of attention are.
    """
    counts = {entry.name: _count_non_finite(state[entry.name], entry) for entry in layout.entries}
    found = [entry for entry in layout.entries if counts[entry.name]]
    if not found:
        return ""
    count = counts[found[0].name]
    values = "1 value that is" if count == 1 else f"{count:,} values that are"
    more = f"; so do {len(found) - 1} other tensors" if len(found) > 1 else ""
    where = f"`{found[0].name}` of {found[0].size:,} values"
    return printable(f"{where} holds {values} NaN, infinite or beyond float32{more}")


def _count_non_finite(tensor: Tensor, entry: TensorSpec) -> int:
    values = tensor.detach().numpy()  # NumPy starts no threads, of which the files' digests have some already
    wrong = np.isnan(values) if entry.role == "buffer" else ~np.isfinite(values)
    return int(np.count_nonzero(wrong))


def _differ(first: Tensor | None, second: Tensor | None) -> bool:
    """Whether both tensors are there and have other values."""
    if first is None or second is None or first.data_ptr() == second.data_ptr():
        return False
    return not torch.equal(first, second)
