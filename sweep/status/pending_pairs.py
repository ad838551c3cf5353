"""Pairs of members without a row, and the blocks in which they are compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweep.core.ids import content_id
from sweep.plan.pools import Pool
from sweep.plan.work import TILE, MemberPairs, MemberPairWork
from sweep.storage.run_folder import RunFolder

Positions = NDArray[np.int64]
"""Pairs as the positions of their members in the pool, shape (pairs, 2), the earlier member first."""


class MeasuredPairs(NamedTuple):
    """The pairs with a row: a number for each member id, and a key for each pair of such numbers."""

    numbers: dict[str, int]
    keys: NDArray[np.int64]

    @classmethod
    def from_columns(cls, first: pa.ChunkedArray, second: pa.ChunkedArray) -> MeasuredPairs:
        """The pairs whose member ids are in two columns."""
        ids = pc.unique(pa.chunked_array([*first.chunks, *second.chunks], pa.string()))
        a, b = (pc.index_in(column, ids).to_numpy().astype(np.int64) for column in (first, second))
        return cls({name: number for number, name in enumerate(ids.to_pylist())}, a * len(ids) + b)

    def without_row(self, members: list[str]) -> NDArray[np.bool_]:
        """Whether each pair of these members has no row, in the order of `np.triu_indices`."""
        numbers = np.array([self.numbers.get(member, -1) for member in members], dtype=np.int64)
        first, second = np.triu_indices(len(members), 1)
        a = numbers[first]
        b = numbers[second]
        missing: NDArray[np.bool_] = (a < 0) | (b < 0) | ~np.isin(a * len(self.numbers) + b, self.keys)
        return missing


def measured_pairs(folder: RunFolder) -> MeasuredPairs:
    """The pairs with a row in the run folder."""
    rows = folder.read("pairs", ["member_a", "member_b"])
    return MeasuredPairs.from_columns(rows["member_a"], rows["member_b"])


def failed_pools(folder: RunFolder) -> set[str]:
    """The pools with a failed block of pairs or inspected models, which `sweep run --retry` repeats."""
    tasks = folder.read("tasks", ["pool_id", "status"])
    return set(tasks["pool_id"].filter(pc.equal(tasks["status"], "failed")).to_pylist())


def missing_pairs(
    pools: Iterable[Pool], failed: Collection[str], present: MeasuredPairs
) -> Iterator[tuple[Pool, Positions]]:
    """Each pool with its pairs that have no row though both members have weights; `failed` are members without."""
    for pool in pools:
        usable = [member for member in pool.members if member.id not in failed]
        missing = present.without_row([member.id for member in usable])
        positions = np.array([member.index for member in usable], dtype=np.int64)
        pairs = np.stack([positions[side][missing] for side in np.triu_indices(len(usable), 1)], axis=1)
        if len(pairs):
            yield pool, pairs


def pair_blocks(pools: Iterable[Pool], failed: Collection[str], present: MeasuredPairs) -> dict[str, MemberPairWork]:
    """The blocks of pairs without a row; the pairs of a block are those of one tile of members with another one."""
    blocks: dict[str, MemberPairWork] = {}
    for pool, pairs in missing_pairs(pools, failed, present):
        ids = [member.id for member in pool.members]
        for tile in _by_tile(pairs):
            name = content_id("pairs", [pool.id, [[ids[a], ids[b]] for a, b in tile.tolist()]])
            blocks[name] = MemberPairWork(MemberPairs(pool.id, tile))
    return blocks


def _by_tile(pairs: Positions) -> Iterator[Positions]:
    """The pairs of each two tiles, in the order of the tiles."""
    first, second = (pairs // TILE).T
    tile = first * (second.max() + 1) + second
    order = np.argsort(tile, kind="stable")
    yield from np.split(pairs[order], np.flatnonzero(np.diff(tile[order])) + 1)
