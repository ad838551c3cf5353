"""Many small parts of a table as few, and nothing left of writers that were killed."""

from __future__ import annotations

import logging
import threading
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

_LARGEST = 64 << 20  # bytes: what is put together at a time, and held in memory uncompressed
_LAST = ("candidates", "members")  # by which other tables are found to be whole
_BESIDE = ("curves", "predictions", "tasks")  # written before the part of the same name that says that it is done
COMPACT_AT = 512  # parts: what readers open in about half a second
_LOOK = 2.0  # seconds between two looks at how many parts there are


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
    folder.run_info()
    with folder.lock("sweep compact"):
        with _told(folder):
            before = {table: len(part_files(folder.path, table)) for table in COLUMNS}
            _compact(folder)
            done = [_became(folder, table, count) for table, count in before.items() if count]
        left = list(_left(folder))
        with storage_errors(folder.path):
            for file in left:
                file.unlink()
    return done, len(left)


@contextmanager
def background_compaction(folder: RunFolder, many: int = COMPACT_AT) -> Iterator[None]:
    """Whenever there are `many` new parts of candidates, put parts together, beside whatever is done meanwhile.

    So a run of a million candidates is read as fast as one of a thousand, while it goes on and ever after. The caller
    holds the lock of the run folder, and nobody else writes parts. An error is logged, and the parts stay.
    """
    done = threading.Event()
    thread = threading.Thread(target=_keep_compact, args=(folder, many, done), name="compact", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _keep_compact(folder: RunFolder, many: int, done: threading.Event) -> None:
    """Look at how many parts there are until all is done, and once more then."""
    parts, left, last = folder.part_file("candidates", "").parent, 0, False
    while not last:
        last = done.wait(_LOOK)
        if _count(parts) - left < many:
            continue
        try:
            with _told(folder):
                _compact(folder)
        except StoreError as error:
            _log.warning(f"parts stay as they are: {error}; {error.hint}")
            return
        left = _count(parts)


def _count(parts: Path) -> int:
    return sum(1 for _ in parts.glob("*.parquet"))


@contextmanager
def _told(folder: RunFolder) -> Iterator[None]:
    """Damage as StoreError."""
    try:
        yield
    except READ_ERRORS as error:
        hint = f"sweep doctor {folder.path} --repair moves what is damaged aside"
        raise StoreError(f"a part of {folder.path} cannot be read: {error}", hint) from None


def _became(folder: RunFolder, table: str, before: int) -> Compacted:
    return Compacted(table, before, len(part_files(folder.path, table)), folder.read(table, []).num_rows)


def _compact(folder: RunFolder) -> None:
    """Put the parts of each table together; of what is being written, and of failures, none is taken."""
    # The parts that say that something is done are listed first: what goes with them is there by then.
    listed = {table: part_files(folder.path, table) for table in sorted(COLUMNS, key=lambda table: table in _BESIDE)}
    whole = {file.stem for table, files in listed.items() if table not in _BESIDE for file in files}
    whole -= {file.stem for table in _LAST for file in failed_parts(folder.path, table)}
    for table in sorted(COLUMNS, key=lambda table: table in _LAST):
        for files in _groups([file for file in listed[table] if file.parent.name != "parts" or file.stem in whole]):
            replace_files(folder.path, table, files, concat_files(table, files))


def _groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Files that are not too large together; one by itself only where it is a part."""
    group: list[Path] = []
    size = 0
    for file in files:
        more = file.stat().st_size
        if group and size + more > _LARGEST:
            yield group
            group, size = [], 0
        group.append(file)
        size += more
    if len(group) > 1 or (group and group[0].parent.name == "parts"):
        yield group


def _left(folder: RunFolder) -> Iterator[Path]:
    """Temporary files of killed writers, and trainings that were kept of members that are done."""
    yield from leftover_files(folder.path, below=False)
    for place in ("members", "tables", "retired"):
        yield from leftover_files(folder.path / place)
    done = folder.member_statuses()
    for file in sorted((folder.path / "members").glob("*.partial")):
        if file.stem in done:
            yield file
