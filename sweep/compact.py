"""Many small parts of a table as few, and nothing left of writers that were killed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sweep.columns import COLUMNS
from sweep.files import StoreError, telling, temporaries
from sweep.parts import BROKEN, exchange, rows_of, together
from sweep.store import RunFolder
from sweep.table import part_files

_LARGEST = 64 << 20  # bytes: what is put together at a time, and held in memory uncompressed
_LAST = ("candidates", "members")  # by which other tables are found to be whole


class Compacted(NamedTuple):
    """What became of a table."""

    table: str
    before: int  # files
    after: int
    rows: int


def compact(folder: RunFolder) -> tuple[list[Compacted], int]:
    """Put the parts of each table together and remove what killed writers left; what became of each, and of how many.

    Parts with failures stay as they are, since `sweep run --retry` makes them anew. A kill at any moment loses nothing
    and shows nothing twice. Raises StoreError while a sweep runs, and for a part that cannot be read.
    """
    folder.info()
    with folder.lock("sweep compact"):
        try:
            spoilt = set(_spoilt(folder))
            order = [table for table in COLUMNS if table not in _LAST] + list(_LAST)
            done = [_compact(folder, table, spoilt) for table in order]
        except BROKEN as error:
            hint = f"sweep doctor {folder.path} --repair moves what is damaged aside"
            raise StoreError(f"a part of {folder.path} cannot be read: {error}", hint) from None
        left = list(_left(folder))
        with telling(folder.path):
            for file in left:
                file.unlink()
    return [each for each in done if each.before], len(left)


def _compact(folder: RunFolder, table: str, spoilt: set[str]) -> Compacted:
    before = part_files(folder.path, table)
    for files in _groups([file for file in before if file.stem not in spoilt]):
        exchange(folder.path, table, files, together(table, files))
    after = folder.read(table, [])
    return Compacted(table, len(before), len(part_files(folder.path, table)), after.num_rows)


def _groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Two files or more at a time, which are not too large together."""
    group: list[Path] = []
    size = 0
    for file in files:
        more = file.stat().st_size
        if group and size + more > _LARGEST:
            if len(group) > 1:
                yield group
            group, size = [], 0
        group.append(file)
        size += more
    if len(group) > 1:
        yield group


def _spoilt(folder: RunFolder) -> Iterator[str]:
    """The names of parts with failures, and so of those that go with them in other tables."""
    for table in _LAST:
        for file in part_files(folder.path, table):
            if file.parent.name == "parts" and "failed" in rows_of(table, file)["status"].to_pylist():
                yield file.stem


def _left(folder: RunFolder) -> Iterator[Path]:
    """Temporary files of killed writers, and trainings that were kept of members that are done."""
    yield from temporaries(folder.path, below=False)
    for place in ("members", "tables", "retired"):
        yield from temporaries(folder.path / place)
    done = folder.statuses("members", "member_id")
    for file in sorted((folder.path / "members").glob("*.partial")):
        if file.stem in done:
            yield file
