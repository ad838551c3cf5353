"""Which tensors of an external checkpoint are the weights of a network, and what they are called there.

Training code leaves weights beside other things (optimizers, averaged copies, losses) and under names with prefixes
(`module.`, `model.`, `_orig_mod.`, …). Both are decided against the layout of the network that the weights are for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sweep.core.ids import content_id
from sweep.core.state_dict import infinity_text, mismatch_text, nan_text, state_dict_mismatches
from sweep.core.text import did_you_mean
from sweep.core.weights import ParameterLayout
from sweep.storage.checkpoints import CheckpointError, check_tensors, load_content

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT_VERSION = 1
"""Part of the fingerprints of checkpoints: raise it when equal weights would get another fingerprint."""

_RAW = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "student")
"""Names of weights as they are trained, in the order in which they are preferred."""
_AVERAGED = re.compile(r"(^|_)(ema|swa|avg|average|averaged|shadow|polyak)(_|\d|$)")
_TEACHER = re.compile(r"(^|_)(teacher|momentum)(_|\d|$)")
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module"})
"""Parts of names that torch's wrappers of modules add, anywhere in a name."""
_NO_PARAMETERS = frozenset({"total_ops", "total_params", "attn_mask", "inv_freq", "relative_coords_table"})
"""Buffers that some versions of a network store and others compute."""
_OPTIMIZER = re.compile("^(optim|lr_|scheduler|scaler)")  # what lies under such keys are no weights
_DEPTH = 4  # how deep weights may lie in nested mappings
_MOST_PREFIXES = 16  # prefixes of one mapping that are tried, those of most names first
_TOP = "the top level"

Names = tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one file for one network."""

    state: dict[str, Tensor]  # by the names of the network; floats are float32
    taken: str  # the set of weights that was taken, as `weights` names it
    others: Names  # other sets of weights in the file that fit the network
    left_out: Names  # tensors of this set that are beside the network
    mismatches: str  # why the weights do not fit the network; empty if they fit


@dataclass(frozen=True)
class _WeightSet:
    """One set of weights in a file, by the names of the network; unknown names keep the names of the file."""

    path: Names  # keys of nested mappings, then the parts of the prefix
    state: dict[str, Tensor]
    used: frozenset[str]  # names in the file
    left_out: Names
    mismatches: list[str]

    @property
    def name(self) -> str:
        """The name by which `weights` chooses it."""
        parts = [part for part in self.path if part not in _WRAPPERS]
        return ".".join(parts or self.path) or _TOP

    @property
    def rank(self) -> tuple[bool, bool, int, int, int]:
        """Sets with a smaller rank are preferred: those that fit, as they were trained, under usual names."""
        known = [_RAW.index(part) for part in self.path[:1] if part in _RAW]
        order = known[0] if known else len(_RAW) if self.path else -1
        return bool(self.mismatches), self.is_averaged or self.is_teacher, len(self.mismatches), order, len(self.path)

    @property
    def is_averaged(self) -> bool:
        """Whether its name is one of averaged weights."""
        return any(_AVERAGED.search(_snake_case(part)) for part in self.path)

    @property
    def is_teacher(self) -> bool:
        """Whether its name is one of a teacher, which is an average in some methods."""
        return any(_TEACHER.search(_snake_case(part)) for part in self.path)


def read_checkpoint(file: Path, layout: ParameterLayout, weights: str = "") -> Checkpoint:
    """The weights in a file for a network; `weights` names one of several sets, else those as trained are taken.

    Weights that do not fit are returned with the mismatches that remain. Raises CheckpointError for a file that is
    damaged, holds more than tensors and plain values, or has no such set.
    """
    sets = _weight_sets(load_content(file), layout)
    if not sets:
        hint = f"save it alone, or under one of the keys {', '.join(_RAW)}"
        raise CheckpointError(f"{file} holds no state dict", hint)
    fitting = [each for each in sets if not each.mismatches] or sets
    chosen = _choose(sets, weights, file) if weights else fitting[0]
    check_tensors(chosen.state, file)
    others = tuple(dict.fromkeys(each.name for each in fitting if each.name != chosen.name))
    state = {name: value.float() if value.is_floating_point() else value for name, value in chosen.state.items()}
    return Checkpoint(state, chosen.name, others, chosen.left_out, mismatch_text(chosen.state, layout))


class WeightsDigest(NamedTuple):
    """What one reading of the weights of a file finds: their hash, and which of them are NaN or infinite."""

    value: str  # 64 hex digits
    nan: str = ""
    infinity: str = ""

    @classmethod
    def parse(cls, text: str) -> WeightsDigest:
        """The digest that a text stands for."""
        return cls(*text.split("\t"))

    def __str__(self) -> str:
        return "\t".join(self)


def checkpoint_digest(file: Path, layout: ParameterLayout, weights: str = "") -> WeightsDigest:
    """A hash of the weights that a network takes from a file: names in the network, types, shapes and values.

    Neither the format of the file, nor its name, prefixes or what else it holds matter. Raises CheckpointError for a
    file without weights that fit.
    """
    import torch

    found = read_checkpoint(file, layout, weights)
    if found.mismatches:
        raise CheckpointError(f"{file} does not fit: {found.mismatches}")
    digest = hashlib.sha256(f"checkpoint/{CHECKPOINT_VERSION}".encode())
    for name in sorted({entry.name for entry in layout.entries} | (set(layout.counters) & found.state.keys())):
        tensor = found.state[name].detach().contiguous()
        digest.update(f"/{name}/{tensor.dtype}/{tuple(tensor.shape)}/".encode("utf-8", "surrogatepass"))
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return WeightsDigest(digest.hexdigest(), nan_text(found.state, layout), infinity_text(found.state, layout))


def layout_key(layout: ParameterLayout) -> str:
    """A hash of what `checkpoint_digest` depends on beside the file: names, shapes, counters and ties of a network."""
    return content_id("layout", [[each[:2] for each in layout.entries], layout.counters, layout.tied])


def _choose(sets: Sequence[_WeightSet], wanted: str, file: Path) -> _WeightSet:
    """The set of that name; `ema` and the like mean averaged weights of any usual name. Raises CheckpointError."""
    own = [each for each in sets if each.name == wanted or ".".join(each.path) == wanted]
    own = own or [each for each in sets if wanted in each.path]
    if not own and _AVERAGED.search(_snake_case(wanted)):
        own = [each for each in sets if each.is_averaged] or [each for each in sets if each.is_teacher]
    if own:
        return own[0]
    names = list(dict.fromkeys(each.name for each in sets if not each.mismatches or each is sets[0]))
    raise CheckpointError(f"{file} holds no weights `{wanted}`", did_you_mean(wanted, names) or f"it holds {names}")


def _weight_sets(content: Any, layout: ParameterLayout) -> list[_WeightSet]:
    """Every set of weights in a file, the preferred one first; of each mapping without any that fits, the nearest.

    If no mapping holds all, the parts of a network that are saved apart, `{"encoder": …, "head": …}`, are one set.
    """
    mappings = list(_tensor_mappings(content, ()))
    found = [one for path, tensors in mappings for one in _fitted(path, tensors, layout)]
    if any(path for path, _ in mappings) and all(each.mismatches for each in found):
        whole = {".".join((*path, name)): tensor for path, tensors in mappings for name, tensor in tensors.items()}
        found += [each for each in _fitted((), whole, layout) if not each.mismatches]
    return sorted(found, key=lambda each: each.rank)


def _tensor_mappings(content: Any, path: Names) -> Iterator[tuple[Names, dict[str, Tensor]]]:
    """Yield (keys, tensors) for each nested mapping that holds tensors by name."""
    import torch

    if not isinstance(content, Mapping) or len(path) > _DEPTH:
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield path, tensors
    for key in named:
        if not _OPTIMIZER.match(key):
            yield from _tensor_mappings(named[key], (*path, key))


def _fitted(path: Names, tensors: Mapping[str, Tensor], layout: ParameterLayout) -> list[_WeightSet]:
    """The sets of weights in one mapping: one for each prefix that makes all names fit, else the nearest alone.

    Only if none fits are names of one set also looked for where a part of its prefix leads, as for an encoder and the
    head beside it.
    """
    finder = _Finder(path, tensors, layout)
    for with_parents in (False, True):
        found = [finder.weight_set(prefix, with_parents=with_parents) for prefix in finder.prefixes]
        fitting = [each for each in found if not each.mismatches]
        if fitting:
            used = frozenset[str]().union(*(each.used for each in fitting))
            return [
                replace(each, left_out=tuple(name for name in each.left_out if name not in used)) for each in fitting
            ]
    return [min(found, key=lambda each: len(each.mismatches))]


class _Finder:
    """Finds the tensors of a network in one mapping of a file."""

    def __init__(self, path: Names, tensors: Mapping[str, Tensor], layout: ParameterLayout) -> None:
        self.path = path
        self.tensors = tensors
        self.layout = layout
        names = [entry.name for entry in layout.entries] + [name for name, _ in layout.tied] + list(layout.counters)
        own = {part for name in names for part in name.split(".")}
        self.wrappers = _WRAPPERS - own  # a name that the network has itself is no wrapper's
        self.tops = {name.split(".")[0] for name in names if "." in name}
        self.names = {self._parts(name): name for name in names}
        self.shares = self._by_prefix()

    @property
    def prefixes(self) -> list[Names]:
        """The prefixes to try, those of most names first; the empty one is always among them."""
        by_size = sorted(self.shares, key=lambda prefix: -len(self.shares[prefix]))
        return list(dict.fromkeys([*by_size[:_MOST_PREFIXES], ()]))

    def _parts(self, name: str) -> Names:
        """The parts of a name without those of wrappers."""
        parts = tuple(name.split("."))
        return tuple(part for part in parts if part not in self.wrappers) or parts

    def _by_prefix(self) -> dict[Names, dict[str, str]]:
        """Prefix -> {name in the network: name in the file}, for every prefix that leads to a name of the network.

        Of two names in the file for one in the network, the one with fewer wrappers counts.
        """
        shares: dict[Names, dict[str, str]] = {}
        for old in self.tensors:
            parts = self._parts(old)
            for length in range(len(parts)):
                new = self.names.get(parts[length:])
                if new is not None:
                    share = shares.setdefault(parts[:length], {})
                    share[new] = min(share.get(new, old), old, key=len)
        return shares

    def weight_set(self, prefix: Names, *, with_parents: bool) -> _WeightSet:
        """The set under a prefix, filled from ties; `with_parents` also from where parts of the prefix lead."""
        lengths = range(len(prefix) + 1) if with_parents else (len(prefix),)
        chosen: dict[str, str] = {}
        for length in lengths:
            chosen |= self.shares.get(prefix[:length], {})
        state = {new: self.tensors[old] for new, old in chosen.items()}
        for name, source in self.layout.tied:
            if source not in state and name in state:
                state[source] = state[name]
        used = set(chosen.values())
        beside = [old for old in self.tensors if old not in used]
        if not state_dict_mismatches(state, self.layout):
            beside = [old for old in beside if self._is_inside(old, prefix)]
        left_out = tuple(old for old in self.tensors if old not in used and old not in beside)
        unknown = {old: self.tensors[old] for old in beside if old not in state}
        state |= unknown
        mismatches = state_dict_mismatches(state, self.layout)
        return _WeightSet((*self.path, *prefix), state, frozenset(used), left_out, mismatches)

    def _is_inside(self, name: str, prefix: Names) -> bool:
        """Whether an unknown tensor is in a module of the network: then the weights are those of another network."""
        parts = self._parts(name)
        inner = parts[len(prefix) :]
        is_other = parts[: len(prefix)] != prefix or len(inner) < 2 or inner in self.names
        if is_other or inner[-1] in _NO_PARAMETERS:
            return False
        is_sibling = inner[0].isdigit() and any(top.isdigit() for top in self.tops)
        return self.tensors[name].is_floating_point() and (inner[0] in self.tops or is_sibling)


def _snake_case(name: str) -> str:
    """`modelEma` and `model-ema` as `model_ema`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[-. ]", "_", name).lower()
