"""Arrays too large for memory, as files that all processes of a node map: written once, whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def cache_folder() -> Path:
    """Where such files are kept: MERGE_SWEEP_CACHE, else `merge-sweep` in XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("MERGE_SWEEP_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "merge-sweep"


def open_memmap(file: Path) -> NDArray[Any]:
    """The array in a file, read-only. Raises OSError or ValueError for one that cannot be read."""
    array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    return array


def write_npy_once(file: Path, pieces: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """Write pieces one behind the other as one .npy unless another process has; it has its name only when it is whole.

    Raises OSError.
    """
    part = file.with_suffix(".part")
    with exclusive(file.with_suffix(".lock")):  # so `part` has one writer
        if not file.exists():
            _write(part, pieces, shape, np.dtype(dtype))
            part.replace(file)


@contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """One process of a node at a time; the system lets go of the lock of one that dies. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(part: Path, pieces: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    with open(part, "wb") as file:
        about = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, about)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype).data)
        file.flush()
        os.fsync(file.fileno())
