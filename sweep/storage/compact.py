"""Compaction: merges the many small parts of a table into few, and removes what killed writers left."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sweep.storage.columns import COLUMNS
from sweep.storage.files import StoreError, leftover_files, storage_errors
from sweep.storage.parts import READ_ERRORS, concat_files, replace_files
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import failed_parts, part_files

_log = logging.getLogger(__name__)

_LARGEST = 64 << 20  # bytes of parts merged at a time; their rows are in memory, uncompressed
_LAST = ("candidates", "members")  # their parts say that those of other tables are complete
_BESIDE = ("curves", "predictions", "tasks")  # written before the part of the same name in a table of _LAST
COMPACT_AT = 512  # parts: readers open them in about half a second


class Compacted(NamedTuple):
    """Number of files of a table before and after, and of its rows."""

    table: str
    before: int  # files
    after: int
    rows: int


def compact(folder: RunFolder) -> tuple[list[Compacted], int]:
    """Merge the parts of each table and remove leftovers of killed writers; returns the tables and how many leftovers.

    Parts with failures stay as they are, since `sweep run --retry` replaces them. After a kill at any moment every row
    is there once. Raises StoreError while a sweep runs, and for a part that cannot be read.
    """
    folder.run_info()
    with folder.lock("sweep compact"):
        with _read_errors(folder):
            before = {table: len(part_files(folder.path, table)) for table in COLUMNS}
            _compact(folder)
            done = [_became(folder, table, count) for table, count in before.items() if count]
        left = list(_left(folder))
        with storage_errors(folder.path):
            for file in left:
                file.unlink()
    return done, len(left)


def compact_if_large(folder: RunFolder, many: int = COMPACT_AT) -> None:
    """Merge the parts of each table if there are at least `many` parts of candidates or of members.

    The caller holds the lock of the run folder, and nothing writes parts meanwhile. An error is logged, and then
    the parts stay as they are.
    """
    folders = [folder.part_file(table, "").parent for table in _LAST]
    if all(sum(1 for _ in parts.glob("*.parquet")) < many for parts in folders):
        return
    try:
        with _read_errors(folder):
            _compact(folder)
    except StoreError as error:
        _log.warning(f"parts stay as they are: {error}; {error.hint}")


@contextmanager
def _read_errors(folder: RunFolder) -> Iterator[None]:
    """Raise errors of damaged parts as StoreError."""
    try:
        yield
    except READ_ERRORS as error:
        hint = f"sweep doctor {folder.path} --repair moves what is damaged aside"
        raise StoreError(f"a part of {folder.path} cannot be read: {error}", hint) from None


def _became(folder: RunFolder, table: str, before: int) -> Compacted:
    return Compacted(table, before, len(part_files(folder.path, table)), folder.read(table, []).num_rows)


def _compact(folder: RunFolder) -> None:
    """Merge the parts of each table, except those with failures and those whose last part was never written."""
    listed = {table: part_files(folder.path, table) for table in COLUMNS}
    whole = {file.stem for table, files in listed.items() if table not in _BESIDE for file in files}
    whole -= {file.stem for table in (*_LAST, "tasks") for file in failed_parts(folder.path, table)}
    for table in sorted(COLUMNS, key=lambda table: table in _LAST):
        for files in _groups([file for file in listed[table] if file.parent.name != "parts" or file.stem in whole]):
            replace_files(folder.path, table, files, concat_files(table, files))


def _groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield groups of files that are not too large together; a single file only if it is an uncompacted part."""
    group: list[Path] = []
    size = 0
    for file in files:
        more = file.stat().st_size
        if group and size + more > _LARGEST:
            yield group
            group = []
            size = 0
        group.append(file)
        size += more
    if len(group) > 1 or (group and group[0].parent.name == "parts"):
        yield group


def _left(folder: RunFolder) -> Iterator[Path]:
    """Temporary files of killed writers, and training checkpoints of members that are done."""
    yield from leftover_files(folder.path, below=False)
    for place in ("members", "tables", "retired"):
        yield from leftover_files(folder.path / place)
    done = folder.member_statuses()
    for file in sorted((folder.path / "members").glob("*.partial")):
        if file.stem in done:
            yield file
