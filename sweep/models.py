"""Models and their weights as rows: building, roles of tensors, and state dicts in and out of a layout."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sweep.weights import LEARNABLE, Entry, Layout


def find_head(model: nn.Module, classes: int) -> str:
    """Name of the head: the last linear layer, which must give one output per class.

    Raises ValueError where there is none.
    """
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1][1].out_features != classes:
        raise ValueError(f"{type(model).__name__} does not end in a linear layer with {classes} outputs")
    return str(linear[-1][0])


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


_GAIN = re.compile("gamma|scale|gain|alpha|temperature|gating")
"""Parameters that multiply activations outside of normalisation, as a layer scale does; they act as a norm's weight."""


def _roles(model: nn.Module) -> dict[str, str]:
    """Tensor name -> role, from the module that holds it; position embeddings and class tokens are weights."""
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
    """Lay the float tensors of the model into one row (entries,), which it then reads: writing it loads weights."""
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
            _give_back()
            freed = 0
    return row


_TRIM = 1 << 26


def _give_back() -> None:
    """Let the kernel have what glibc keeps of freed tensors: a large model would be held twice while it is bound."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # another C library may have none
        libc.malloc_trim(0)


def to_state(row: Tensor, layout: Layout, counters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A row as a state dict of new tensors, tied names included."""
    state = {e.name: row[e.offset : e.stop].reshape(e.shape).clone() for e in layout.entries}
    state |= {name: counters[name].clone() for name in layout.counters if name in counters}
    return state | {name: state[source].clone() for name, source in layout.tied}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generators seeded inside and as before outside: initialisation and dropout know no other."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # asking for a state begins it
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def build(architecture: Callable[..., nn.Module], shape: tuple[int, int, int], seed: int, **settings: Any) -> nn.Module:
    """A freshly initialised model for (classes, channels, size), the same for the same seed."""
    with seeded(seed):
        return architecture(*shape, **settings).float()


def without_memory(
    architecture: Callable[..., nn.Module],
    shape: tuple[int, int, int],
    settings: Mapping[str, Any],
    *,
    pretrained: bool = False,
) -> nn.Module:
    """A model for (classes, channels, size) that has shapes and no weights.

    Pretrained weights must be here where settings ask for them and `pretrained` says so, too.
    """
    plain = {} if pretrained or "pretrained" not in settings else {"pretrained": False}
    with torch.device("meta"):
        return architecture(*shape, **{**settings, **plain})


def draw_head(model: nn.Module, classes: int, seed: int) -> None:
    """Draw the head anew, as torch draws a linear layer, whatever the architecture begins with there."""
    head = model.get_submodule(find_head(model, classes))
    assert isinstance(head, nn.Linear)
    with seeded(seed):
        head.reset_parameters()


def _keep_pages() -> None:
    """Let glibc keep up to 1 GiB that was freed: each batch frees and asks for the same again.

    Left to itself it gives large tensors back, and the kernel's zeroing of new pages takes 10 to 50% of an evaluation.
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # another C library may have none
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 30)


def _in_order() -> None:
    """Let a GPU add up in one order where torch knows how; on a CPU it does so anyway, by other kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is asked for
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def steady(threads: int, gpus: float) -> torch.device:
    """The device of a worker with that many GPUs, and torch so set that it gives the same bits again.

    Raises RuntimeError where GPUs were asked for and torch sees none.
    """
    torch.set_num_threads(threads)  # a reused process keeps the threads of whoever had it before
    _keep_pages()
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if gpus and not torch.cuda.is_available():
        raise RuntimeError(f"{gpus:g} GPU asked for, and torch {torch.__version__} sees none: is it a CUDA build?")
    if gpus:
        _in_order()
    return torch.device("cuda" if gpus else "cpu")
