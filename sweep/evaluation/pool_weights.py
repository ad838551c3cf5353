"""The weights of a pool: from the run folder to a matrix that workers share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sweep.core.dataset import IN_MEMORY, Dataset
from sweep.core.ids import content_id
from sweep.core.memmap import cache_folder, exclusive, open_memmap, write_npy_once
from sweep.core.state_dict import mismatch_text
from sweep.core.weights import ParameterLayout
from sweep.model.build import build_member_model
from sweep.model.layout import flatten_state_dict, make_layout
from sweep.plan.pools import Member, Pool
from sweep.storage.checkpoints import load_tensors
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder


@dataclass(frozen=True)
class PoolWeights:
    """The weights of a pool as workers share them, read-only: rows are the members in order, then the start if any."""

    matrix: NDArray[np.float32]  # (members + starts, entries)
    counters: dict[str, NDArray[np.int64]]  # of the first member
    failed: dict[int, str]  # member -> the reason that it has no weights
    has_start: bool
    n_parameters: int  # learnable entries: the first columns
    mapped_pool: MappedPool | None = None  # the source of a matrix that is too large for memory

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the matrix, which Ray shares among the processes of a node, or the source of a mapped matrix."""
        fields = (self.counters, self.failed, self.has_start, self.n_parameters, self.mapped_pool)
        return (_mapped, fields) if self.mapped_pool else (PoolWeights, (self.matrix, *fields))

    @classmethod
    def from_states(
        cls,
        states: Sequence[Mapping[str, Tensor] | None],
        start: Mapping[str, Tensor] | None,
        model: nn.Module,
        classes: int,
    ) -> PoolWeights:
        """A pool from state dicts, None for members that failed. Raises ValueError as `flatten_state_dict` does."""
        rows = [*states, *([start] if start is not None else [])]
        return cls.from_iterable(rows, len(rows), make_layout(model, classes), has_start=start is not None)

    @classmethod
    def from_iterable(
        cls,
        states: Iterable[Mapping[str, Tensor] | None],
        count: int,
        layout: ParameterLayout,
        *,
        has_start: bool,
        stack: MappedPool | None = None,
    ) -> PoolWeights:
        """A pool from `count` state dicts, the start last; each is freed once it is read. A `stack` holds the matrix.

        Raises ValueError as `flatten_state_dict` does.
        """
        matrix = None if stack else np.zeros((count, layout.n_entries), dtype=np.float32)
        counters: dict[str, NDArray[np.int64]] = {}
        failed = {}
        for index, state in enumerate(states):
            if state is None:
                failed[index] = "no weights"
                continue
            counters = counters or {name: state[name].numpy() for name in layout.counters if name in state}
            if matrix is not None:
                matrix[index] = flatten_state_dict(state, layout).numpy()
        if matrix is None:
            assert stack
            matrix = stack.matrix()
        return cls(matrix, counters, failed, has_start, layout.n_parameters, stack)

    def with_causes(self, causes: Mapping[int, str]) -> PoolWeights:
        """The same weights, with the reasons that members have none."""
        return replace(self, failed={**self.failed, **causes})


def _mapped(
    counters: dict[str, NDArray[np.int64]],
    failed: dict[int, str],
    has_start: bool,
    n_parameters: int,
    stack: MappedPool,
) -> PoolWeights:
    return PoolWeights(stack.matrix(), counters, failed, has_start, n_parameters, stack)


def load_pool_weights(
    folder: RunFolder, pool: Pool, dataset: Dataset, failed: Mapping[str, str], bound: int = IN_MEMORY
) -> PoolWeights:
    """The weights of a pool from the run folder; `failed` maps members without weights to the reasons.

    A matrix of more bytes than the bound is mapped from a file. Raises StoreError for weights that cannot be read or
    do not fit the architecture, with the first three mismatches.
    """
    first = pool.members[0]
    digests = folder.weight_hashes()
    model = build_member_model(first.population.architecture, dataset.shape, first.init_seed)
    layout = make_layout(model, len(dataset.classes))
    rows = [*pool.members, *([pool.start] if pool.start else [])]

    def state(member: Member) -> dict[str, Tensor] | None:
        if member.id in failed:
            return None
        weights = folder.load_weights(member.id, digests.get(member.id))
        problems = mismatch_text(weights, layout)
        if problems:
            file = folder.weights_file(member.id)
            raise StoreError(f"{file} does not fit {pool.population.architecture.name}: {problems}")
        return weights

    stack = None
    if 4 * len(rows) * layout.n_entries > bound:
        files = tuple(None if member.id in failed else folder.weights_file(member.id) for member in rows)
        hashes = [None if member.id in failed else digests.get(member.id, member.id) for member in rows]
        stack = MappedPool(files, layout, content_id("weights", hashes))
    weights = PoolWeights.from_iterable(
        map(state, rows), len(rows), layout, has_start=pool.start is not None, stack=stack
    )
    causes = {index: failed[member.id] for index, member in enumerate(pool.members) if member.id in failed}
    return weights.with_causes(causes)


_KEPT = 2  # pools are evaluated one after the other; a matrix stays mapped after its file is removed


@dataclass(frozen=True)
class MappedPool:
    """The weights files of a pool in the order of its rows, None for members without one, and their layout."""

    files: tuple[Path | None, ...]
    layout: ParameterLayout
    key: str  # of the contents of the files

    def matrix(self) -> NDArray[np.float32]:
        """The mapped matrix, (rows, entries); written with one model in memory at a time. Raises StoreError."""
        name = content_id("stack", [self.key, [entry._asdict() for entry in self.layout.entries]])
        file = cache_folder() / "pools" / f"{name}.npy"
        try:
            with exclusive(file.parent / "lock"):  # no other process removes this file before it is mapped
                write_npy_once(file, self._rows(), (len(self.files), self.layout.n_entries), np.float32)
                matrix: NDArray[Any] = open_memmap(file)
                _forget_others(file)
        except (OSError, ValueError) as error:
            what = f"cannot keep the weights of a pool in {file.parent}: {error}"
            raise StoreError(what, "MERGE_SWEEP_CACHE names another folder") from None
        return matrix

    def _rows(self) -> Iterator[NDArray[np.float32]]:
        for file in self.files:
            if file is None:
                yield np.zeros(self.layout.n_entries, dtype=np.float32)
            else:
                yield flatten_state_dict(load_tensors(file), self.layout).numpy()


def _forget_others(file: Path) -> None:
    """Remove all matrices but this one and the last one used before it."""
    file.touch()
    stacks = sorted(file.parent.glob("*.npy"), key=lambda each: each.stat().st_mtime, reverse=True)
    for each in [stack for stack in stacks if stack != file][_KEPT - 1 :]:
        each.unlink(missing_ok=True)
