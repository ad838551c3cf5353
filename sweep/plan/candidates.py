"""The candidates of a plan in columns: of a million, no object is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from sweep.core.choice import PluginConfig
from sweep.core.protocol import CORRECT_PROTOCOL, EvalProtocol

Ints = NDArray[np.int32]
Ids = NDArray[np.bytes_]
"""Ids as 16 bytes each, of which people see the hexadecimal digits."""

_BYTES = 16


class Candidate(NamedTuple):
    """One thing to evaluate: subset × alignment × method × scaling × repair × protocol. Many, hence a tuple."""

    id: str
    pool_id: str
    subset: tuple[int, ...]
    method: PluginConfig
    alignment: PluginConfig
    scaling: PluginConfig
    repair: PluginConfig
    block: str = ""
    protocol: EvalProtocol = CORRECT_PROTOCOL


class CandidateGroup(NamedTuple):
    """What candidates of a pool have in common, and the subsets that they differ in."""

    pool_id: str
    subsets: Sequence[tuple[int, ...]]
    method: PluginConfig
    alignment: PluginConfig
    scaling: PluginConfig
    repair: PluginConfig
    protocol: EvalProtocol = CORRECT_PROTOCOL

    @property
    def costs(self) -> list[float]:
        """About how many passes over a split the candidate of each subset takes."""
        steps = (self.alignment.name != "none") + len({"images", "members"} & set(self.repair.plugin.needs))
        by_size = {size: steps + _cost(self.method, size) for size in {len(subset) for subset in self.subsets}}
        return [by_size[len(subset)] for subset in self.subsets]


def _cost(method: PluginConfig, size: int) -> float:
    """Averaged outputs cost next to nothing, searches two passes per member more."""
    search = ("score" in method.plugin.needs) * 2 * size
    return search + (1.0 if method.space == "weights" else 0.02)


@dataclass(frozen=True, eq=False)
class CandidateTable(Sequence[Candidate]):
    """Candidates in their order, each made when it is looked at; all columns are of one length."""

    groups: Sequence[CandidateGroup]
    blocks: Sequence[str]
    ids: Ids
    group_index: Ints  # position in `factors`
    subset_index: Ints  # position in their subsets
    block: Ints  # position in `blocks`; -1 while it has none

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, chosen: int) -> Candidate: ...

    @overload
    def __getitem__(self, chosen: slice) -> CandidateTable: ...

    def __getitem__(self, chosen: int | slice) -> Candidate | CandidateTable:
        if isinstance(chosen, slice):
            return self.take(chosen)
        digits = self.ids[chosen : chosen + 1 or None].tobytes().hex()
        return self._made(
            digits, int(self.group_index[chosen]), int(self.subset_index[chosen]), int(self.block[chosen])
        )

    def __iter__(self) -> Iterator[Candidate]:
        digits = self.ids.tobytes().hex()
        columns = (self.group_index.tolist(), self.subset_index.tolist(), self.block.tolist())
        for start, each in zip(range(0, len(digits), 2 * _BYTES), zip(*columns, strict=True), strict=True):
            yield self._made(digits[start : start + 2 * _BYTES], *each)

    def _made(self, digits: str, factor: int, place: int, block: int) -> Candidate:
        pool_id, subsets, method, alignment, scaling, repair, protocol = self.groups[factor]
        name = self.blocks[block] if block >= 0 else ""
        return Candidate(digits, pool_id, subsets[place], method, alignment, scaling, repair, name, protocol)

    def take(self, chosen: slice | NDArray[Any]) -> CandidateTable:
        """The candidates at these positions, in their order."""
        columns = {name: getattr(self, name)[chosen] for name in ("ids", "group_index", "subset_index", "block")}
        return replace(self, **columns)

    def where(self, wanted: Callable[[CandidateGroup], bool]) -> CandidateTable:
        """The candidates of the groups for which `wanted` is true."""
        return self.take(self.by_group(wanted, np.bool_))

    def by_group(self, value: Callable[[CandidateGroup], Any], kind: type[np.generic]) -> NDArray[Any]:
        """For each candidate, the value of its group."""
        return np.array([value(each) for each in self.groups], dtype=kind)[self.group_index]

    @property
    def costs(self) -> NDArray[np.float64]:
        """For each candidate, about how many forward passes over a split it takes."""
        found = [each.costs for each in self.groups]
        begins = np.cumsum([0, *map(len, found)])[:-1]
        return np.array([cost for each in found for cost in each])[begins[self.group_index] + self.subset_index]

    def by_block(self) -> dict[str, NDArray[np.intp]]:
        """block_id -> the positions of its candidates, blocks in the order of their first candidate."""
        order = np.argsort(self.block, kind="stable")
        begins = np.flatnonzero(np.diff(self.block[order], prepend=-2))
        groups = sorted(np.split(order, begins[1:]) if len(order) else [], key=lambda group: int(group[0]))
        return {self.blocks[self.block[group[0]]]: group for group in groups}

    def with_prefix(self, prefix: str) -> CandidateTable:
        """The candidates whose ids begin with the prefix."""
        return self.take(np.char.startswith(hex_ids(self.ids), prefix.encode()))


class PendingCandidates(Sequence[tuple[Candidate, Sequence[str]]]):
    """Pairs of a candidate and the splits for which it has no row yet; pickled as a plain list."""

    def __init__(self, candidates: CandidateTable, splits: Sequence[str], missing: NDArray[np.bool_]) -> None:
        """`missing` is a boolean mask (candidates, splits)."""
        self.candidates = candidates
        self.splits = splits
        self.missing = missing

    def __len__(self) -> int:
        return len(self.candidates)

    @overload
    def __getitem__(self, chosen: int) -> tuple[Candidate, Sequence[str]]: ...

    @overload
    def __getitem__(self, chosen: slice) -> PendingCandidates: ...

    def __getitem__(self, chosen: int | slice) -> tuple[Candidate, Sequence[str]] | PendingCandidates:
        if isinstance(chosen, slice):
            return PendingCandidates(self.candidates[chosen], self.splits, self.missing[chosen])
        splits = zip(self.splits, self.missing[chosen], strict=True)
        return self.candidates[chosen], tuple(split for split, is_missing in splits if is_missing)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def by_block(self) -> dict[str, PendingCandidates]:
        """block_id -> its pending candidates, blocks in the order of their first candidate."""
        groups = self.candidates.by_block()
        return {
            name: PendingCandidates(self.candidates.take(own), self.splits, self.missing[own])
            for name, own in groups.items()
        }


class PlannedBlocks(NamedTuple):
    """Candidates that were planned before, and their blocks, which they keep."""

    ids: Ids  # ascending
    block: Ints
    blocks: Sequence[str]

    @classmethod
    def from_columns(cls, ids: Ids, block: Ints, blocks: Sequence[str]) -> PlannedBlocks:
        """From the ids of candidates in any order, and the places of their blocks among `blocks`."""
        order = np.argsort(ids)
        return cls(ids[order], block[order], blocks)

    def blocks_of(self, ids: Ids) -> Ints:
        """For each id its block, -1 where it was not planned."""
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int32)
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[place] == ids, self.block[place], -1).astype(np.int32)


NO_BLOCKS = PlannedBlocks(np.zeros(0, "S16"), np.zeros(0, np.int32), [])


def hex_ids(ids: Ids) -> NDArray[np.bytes_]:
    """Ids as people see them, in ASCII."""
    return np.frombuffer(ids.tobytes().hex().encode(), dtype=f"S{2 * _BYTES}")


def parse_hex_ids(digits: Sequence[str]) -> Ids:
    """Ids as they are kept, from what people see."""
    return np.frombuffer(bytes.fromhex("".join(digits)), dtype=f"S{_BYTES}")
