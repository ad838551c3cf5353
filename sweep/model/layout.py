"""A network's weights as one flat row: roles and columns of its tensors, state dicts to rows and back."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sweep.core.state_dict import mismatch_text
from sweep.core.weights import TRAINABLE_ROLES, ParameterLayout, TensorSpec


def find_head(model: nn.Module, classes: int) -> str:
    """Name of the head: the last linear layer, which must have one output per class.

    Raises ValueError if the model has no such layer.
    """
    name = last_linear(model)
    head = model.get_submodule(name)
    if not isinstance(head, nn.Linear) or head.out_features != classes:
        raise ValueError(f"{type(model).__name__} does not end in a linear layer with {classes} outputs")
    return name


def last_linear(model: nn.Module) -> str:
    """Name of the last linear layer; empty without any, as is that of a model that is one."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return str(names[-1]) if names else ""


def make_layout(model: nn.Module, classes: int) -> ParameterLayout:
    """Roles and columns of the model's tensors; tied tensors take one place."""
    roles = _roles(model)
    head = find_head(model, classes)
    first: dict[int, str] = {}
    tied = []
    floats = []
    counters = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not tensor.is_floating_point():
            counters.append(name)
        elif id(tensor) in first:
            tied.append((name, first[id(tensor)]))
        else:
            first[id(tensor)] = name
            role = "head" if name.rpartition(".")[0] == head else roles[name]
            floats.append((name, tuple(tensor.shape), role))
    entries = []
    offset = 0
    for name, shape, role in sorted(floats, key=lambda each: each[2] not in TRAINABLE_ROLES):  # stable: order is kept
        entries.append(TensorSpec(name, shape, role, offset))
        offset = entries[-1].stop
    return ParameterLayout(tuple(entries), tuple(counters), tuple(tied))


_GAIN = re.compile("gamma|scale|gain|alpha|temperature|gating")
"""Names of parameters that multiply activations, as a layer scale does; they have the role of a norm's weight."""


def _roles(model: nn.Module) -> dict[str, str]:
    """Tensor name -> role, from the type of its module; position embeddings and class tokens are weights."""
    running = {"running_mean": "mean", "running_var": "variance"}
    roles = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        norm = re.search("norm|affine", type(module).__name__.lower())
        for name, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            gain = norm or _GAIN.search(name)
            roles[dot + name] = "norm" if gain else "bias" if tensor.ndim <= 1 else "weight"
        for name, _ in module.named_buffers(recurse=False, remove_duplicate=False):
            roles[dot + name] = running.get(name, "buffer")
    return roles


def flatten_state_dict(state: Mapping[str, Tensor], layout: ParameterLayout) -> Tensor:
    """A state dict as one row, (entries,) float32. Raises ValueError with the first mismatches to the layout."""
    problems = mismatch_text(state, layout)
    if problems:
        raise ValueError(problems)
    row = torch.empty(layout.n_entries, dtype=torch.float32)
    for entry in layout.entries:
        row[entry.offset : entry.stop] = state[entry.name].reshape(-1)
    return row


def bind_flat(model: nn.Module, layout: ParameterLayout, device: torch.device) -> Tensor:
    """Make the model's float tensors views of one row, (entries,): writing to the row loads weights."""
    model.to(device)
    row = torch.empty(layout.n_entries, device=device)
    tensors = model.state_dict(keep_vars=True)
    freed = 0
    for entry in layout.entries:
        view = row[entry.offset : entry.stop].view(entry.shape)
        view.copy_(tensors[entry.name].detach())
        tensors[entry.name].data = view
        freed += 4 * entry.size
        if freed >= _TRIM:
            _trim_malloc()
            freed = 0
    return row


_TRIM = 1 << 26


def _trim_malloc() -> None:
    """Return freed memory to the kernel; without it a large model takes twice its memory while it is bound."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # another C library may have none
        libc.malloc_trim(0)


def unflatten_state_dict(row: Tensor, layout: ParameterLayout, counters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A row as a state dict of new tensors, with counters and tied names."""
    state = {e.name: row[e.offset : e.stop].reshape(e.shape).clone() for e in layout.entries}
    state |= {name: counters[name].clone() for name in layout.counters if name in counters}
    return state | {name: state[source].clone() for name, source in layout.tied}
