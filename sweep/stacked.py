"""The matrix of a pool that is too large for memory: made of its weights files, one after the other, once per node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.files import StoreError
from sweep.identity import content_id
from sweep.mapped import alone, cache_folder, mapped, write_once
from sweep.models import flatten
from sweep.store import load_tensors
from sweep.weights import Layout

_KEPT = 2  # pools are evaluated one after the other; what is mapped already stays so when its name is gone


@dataclass(frozen=True)
class Stack:
    """The weights files of a pool in the order of its rows, None where there are none, and how each is laid out."""

    files: tuple[Path | None, ...]
    layout: Layout
    key: str  # of what the files hold

    def matrix(self) -> NDArray[np.float32]:
        """(rows, entries), mapped; holds one model at a time while it is made. Raises StoreError."""
        name = content_id("stack", [self.key, [entry._asdict() for entry in self.layout.entries]])
        file = cache_folder() / "pools" / f"{name}.npy"
        try:
            with alone(file.parent / "lock"):  # nobody else's stack pushes this one out before it is mapped
                write_once(file, self._rows(), (len(self.files), self.layout.n_entries), np.float32)
                matrix: NDArray[Any] = mapped(file)
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
                yield flatten(load_tensors(file), self.layout).numpy()


def _forget_others(file: Path) -> None:
    """Keep this matrix and the one used last before it: a pool that is asked for again is stacked again."""
    file.touch()
    stacks = sorted(file.parent.glob("*.npy"), key=lambda each: each.stat().st_mtime, reverse=True)
    for each in [stack for stack in stacks if stack != file][_KEPT - 1 :]:
        each.unlink(missing_ok=True)
