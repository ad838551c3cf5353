"""Compares state dicts with the layout of a network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweep.core.text import format_count, printable
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


def nan_text(state: Mapping[str, Tensor], layout: ParameterLayout) -> str:
    """The first tensor that holds NaN, with their count; empty if there is none. `state` fits the layout."""
    return _first_with(state, layout.entries, np.isnan, "NaN")


def infinity_text(state: Mapping[str, Tensor], layout: ParameterLayout) -> str:
    """The first weight with infinite values, which also values beyond float32 become; empty if there is none.

    `state` fits the layout and is float32. A buffer may be infinite, as masks of attention are.
    """
    weights = [entry for entry in layout.entries if entry.role != "buffer"]
    return _first_with(state, weights, np.isinf, "infinite in float32")


def _first_with(
    state: Mapping[str, Tensor], entries: Sequence[TensorSpec], is_found: Callable[[Any], Any], what: str
) -> str:
    """The first tensor with such values in words, and how many others have some."""
    # NumPy starts no threads, of which the files' digests have some already.
    counts = [int(np.count_nonzero(is_found(state[entry.name].detach().numpy()))) for entry in entries]
    found = [(entry, count) for entry, count in zip(entries, counts, strict=True) if count]
    if not found:
        return ""
    entry, count = found[0]
    values = "1 value that is" if count == 1 else f"{count:,} values that are"
    others = len(found) - 1
    more = f", and so {'does' if others == 1 else 'do'} {format_count(others, 'other tensor')}" if others else ""
    return printable(f"`{entry.name}` of {entry.size:,} values holds {values} {what}{more}")


def _differ(first: Tensor | None, second: Tensor | None) -> bool:
    """Whether both tensors are there and have other values."""
    if first is None or second is None or first.data_ptr() == second.data_ptr():
        return False
    return not torch.equal(first, second)
