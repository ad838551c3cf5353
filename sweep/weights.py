"""A pool as one matrix (members, entries), with the role of every tensor; and how linear merges are made of it.

Columns are first the learnable parameters, then running statistics, each in the order of the state dict, so that
merging learnable parameters is arithmetic on one contiguous slab. Counters stay out: they come from the first member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Probability = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]


@dataclass(frozen=True)
class Exactly:
    """How many members a method takes, where it is not any number."""

    count: int


Members: TypeAlias = Tensor  # (members, parameters)
One = Annotated[Tensor, Exactly(1)]  # (1, parameters)
Pair = Annotated[Tensor, Exactly(2)]  # (2, parameters)
Weights: TypeAlias = Tensor  # (parameters,)


class Combination(Tensor):
    """Return type of methods whose result is a linear combination of members (and base), (parameters,).

    Its coefficients do not depend on the members' entries, except through `score`. The engine then calls the method on
    coordinates (rows of the identity matrix) and gets the coefficients, so that equal merges are evaluated once.
    """


class Factors(Tensor):
    """Return type of scalings: a factor per member and tensor, (members, tensors)."""


class Heads(NamedTuple):
    """The last linear layers of some members."""

    weight: Tensor  # (members, classes, features)
    bias: Tensor  # (members, classes)


LEARNABLE = ("weight", "bias", "norm", "head")
STATISTICS = ("mean", "variance", "buffer")


class Entry(NamedTuple):
    """One tensor of the state dict and its columns in the matrix."""

    name: str
    shape: tuple[int, ...]
    role: str
    offset: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return torch.Size(self.shape).numel()

    @property
    def stop(self) -> int:
        """First column after this tensor's."""
        return self.offset + self.size


@dataclass(frozen=True)
class Layout:
    """Where each float tensor of an architecture lies in a row, and which names are tied or counters."""

    entries: tuple[Entry, ...]
    counters: tuple[str, ...]
    tied: tuple[tuple[str, str], ...]  # (name, name of the tensor it is)

    @cached_property
    def n_parameters(self) -> int:
        """Learnable entries, tied tensors once: the first columns."""
        return max((e.stop for e in self.entries if e.role in LEARNABLE), default=0)

    @cached_property
    def n_entries(self) -> int:
        """All columns."""
        return max((e.stop for e in self.entries), default=0)

    @cached_property
    def head(self) -> tuple[Entry, Entry | None]:
        """Weight and bias of the head."""
        weight, *bias = (e for e in self.entries if e.role == "head")
        return weight, bias[0] if bias else None


def find_head(model: nn.Module, classes: int) -> str:
    """Name of the head: the last linear layer, which must give one output per class.

    Raises ValueError where there is none.
    """
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1][1].out_features != classes:
        raise ValueError(f"{type(model).__name__} does not end in a linear layer with {classes} outputs")
    return linear[-1][0]


def layout_of(model: nn.Module, classes: int) -> Layout:
    """Roles and columns of the model's tensors; tied tensors are laid out once."""
    roles, head = _roles(model), find_head(model, classes)
    first: dict[int, str] = {}
    tied, floats, counters = [], [], []
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not tensor.is_floating_point():
            counters.append(name)
        elif id(tensor) in first:
            tied.append((name, first[id(tensor)]))
        else:
            first[id(tensor)] = name
            role = "head" if name.rpartition(".")[0] == head else roles[name]
            floats.append((name, tuple(tensor.shape), role))
    entries, offset = [], 0
    for name, shape, role in sorted(floats, key=lambda each: each[2] not in LEARNABLE):  # stable: order is kept
        entries.append(Entry(name, shape, role, offset))
        offset = entries[-1].stop
    return Layout(tuple(entries), tuple(counters), tuple(tied))


def _roles(model: nn.Module) -> dict[str, str]:
    """Tensor name -> role, from the module that holds it."""
    running = {"running_mean": "mean", "running_var": "variance"}
    roles = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        norm = "norm" in type(module).__name__.lower()
        for name, tensor in module.named_parameters(recurse=False, remove_duplicate=False):
            roles[dot + name] = "norm" if norm else "bias" if tensor.ndim <= 1 else "weight"
        for name, _ in module.named_buffers(recurse=False, remove_duplicate=False):
            roles[dot + name] = running.get(name, "buffer")
    return roles


def flatten(state: Mapping[str, Tensor], layout: Layout) -> Tensor:
    """A state dict as one row, (entries,) float32; raises ValueError as `differences` tells."""
    problems = differences(state, layout)
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ValueError("; ".join(problems[:3]) + more)
    row = torch.empty(layout.n_entries, dtype=torch.float32)
    for entry in layout.entries:
        row[entry.offset : entry.stop] = state[entry.name].reshape(-1)
    return row


def differences(state: Mapping[str, Tensor], layout: Layout) -> list[str]:
    """What keeps a state dict from fitting an architecture: missing, unknown and differently shaped tensors."""
    expected = {e.name: e.shape for e in layout.entries}
    known = expected.keys() | set(layout.counters) | {name for name, _ in layout.tied}
    missing = [f"`{name}` is missing" for name in expected if name not in state]
    unknown = [f"`{name}` is unknown" for name in state if name not in known]
    shaped = [
        f"`{name}` has shape {tuple(state[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    odd = [f"`{name}` is {state[name].dtype}" for name in expected if name in state and not _real(state[name])]
    return missing + unknown + shaped + odd


def _real(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def bind(model: nn.Module, layout: Layout, device: torch.device) -> Tensor:
    """Lay all float tensors of the model into one row (entries,), which it then reads: writing the row loads weights."""
    model.to(device)
    row = torch.empty(layout.n_entries, device=device)
    tensors = model.state_dict(keep_vars=True)
    for entry in layout.entries:
        view = row[entry.offset : entry.stop].view(entry.shape)
        view.copy_(tensors[entry.name].detach())
        tensors[entry.name].data = view
    return row


class Segment(NamedTuple):
    """A run of columns that take the same combination of members."""

    start: int
    stop: int
    rows: tuple[int, ...]
    coefficients: tuple[float, ...]


Blend: TypeAlias = tuple[Segment, ...]
"""A linear merge in full: equal blends of one matrix are equal weights, so it is the key under which they are kept."""


def blend(layout: Layout, rows: Sequence[int], coefficients: Sequence[float], factors: Tensor) -> Blend:
    """The merge Σ coefficient × factor × member per tensor; running statistics take the coefficients made convex.

    `factors` is (members, tensors of the layout).
    """
    learnable, convex = tuple(coefficients), _convex(coefficients)
    segments: list[Segment] = []
    for column, entry in enumerate(layout.entries):
        shares = learnable if entry.role in LEARNABLE else convex
        weights = [share * float(factor) for share, factor in zip(shares, factors[:, column], strict=True)]
        used = [(row, weight) for row, weight in zip(rows, weights, strict=True) if weight]
        terms = tuple(row for row, _ in used), tuple(weight for _, weight in used)
        if segments and (segments[-1].rows, segments[-1].coefficients) == terms:
            segments[-1] = segments[-1]._replace(stop=entry.stop)
        else:
            segments.append(Segment(entry.offset, entry.stop, *terms))
    return tuple(segments)


def _convex(coefficients: Sequence[float]) -> tuple[float, ...]:
    """Negative coefficients to zero, the sum to one; equal shares where nothing is left."""
    positive = [max(c, 0.0) for c in coefficients]
    total = sum(positive)
    return tuple(c / total if total else 1 / len(positive) for c in positive)


_CHUNK = 1 << 16  # floats: source and target of one addition stay in the second-level cache


def combine(matrix: Tensor, merge: Blend, out: Tensor) -> Tensor:
    """Write the merge into `out`, (entries,): in the order of the rows, so that the size of the pool changes no bit."""
    for start, stop, rows, coefficients in merge:
        for left in range(start, stop, _CHUNK):
            piece = slice(left, min(left + _CHUNK, stop))
            target = out[piece]
            target.zero_()
            for row, coefficient in zip(rows, coefficients, strict=True):
                target.add_(matrix[row, piece], alpha=coefficient)
    return out


def to_state(row: Tensor, layout: Layout, counters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A row as a state dict of new tensors, tied names included."""
    state = {e.name: row[e.offset : e.stop].reshape(e.shape).clone() for e in layout.entries}
    state |= {name: counters[name].clone() for name in layout.counters if name in counters}
    return state | {name: state[source].clone() for name, source in layout.tied}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generators seeded inside and as before outside, for initialisation and dropout, which know no other."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def build(architecture: Callable[..., nn.Module], shape: tuple[int, int, int], seed: int, **settings: Any) -> nn.Module:
    """A freshly initialised model for (classes, channels, size), the same for the same seed."""
    with seeded(seed):
        return architecture(*shape, **settings).float()
