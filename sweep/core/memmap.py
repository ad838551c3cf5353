"""Memory-mapped .npy files in a cache folder, written once per node and shared by its processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sweep.core.file_lock import file_lock
from sweep.core.paths import PathError, expand, home


def cache_folder() -> Path:
    """The folder of cached arrays: MERGE_SWEEP_CACHE, else `merge-sweep` in XDG_CACHE_HOME or ~/.cache.

    Raises PathError where none of these is known.
    """
    if folder := os.environ.get("MERGE_SWEEP_CACHE"):
        return expand(folder)
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return expand(folder) / "merge-sweep"
    try:
        return home() / ".cache" / "merge-sweep"
    except PathError as error:
        what = f"there is no folder for decoded images and large pools: {error}"
        raise PathError(what, "set MERGE_SWEEP_CACHE to a folder that you may write to") from None


def open_memmap(file: Path) -> NDArray[Any]:
    """Map the array in a .npy file, read-only. Raises OSError or ValueError for a damaged file."""
    array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    return array


def write_npy_once(file: Path, pieces: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """Write the concatenation of pieces to a .npy file, unless the file exists.

    If several processes call this, one writes and the others wait. The file is renamed to `file` once it is complete.
    Raises OSError.
    """
    part = file.with_suffix(".part")
    with exclusive(file.with_suffix(".lock")):  # so that only one process writes `part`
        if not file.exists():
            _write(part, pieces, shape, np.dtype(dtype))
            part.replace(file)


@contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """Hold a lock file, so that only one process of a node runs the block at a time. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(file):
        yield


def _write(part: Path, pieces: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    with open(part, "wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype).data)
        file.flush()
        os.fsync(file.fileno())
