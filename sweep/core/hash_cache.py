"""Digests of files, kept in the user's cache folder by path and version, so that an unchanged file is read once.

A version is size, modification and change time (ns) and inode. Every failure of the cache itself (no home, a read-only
or full folder, a damaged or locked database) means that digests are computed again, never an error.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from sweep.core.errors import UserError
from sweep.core.memmap import cache_folder
from sweep.core.text import format_duration, printable

_log = logging.getLogger(__name__)
_CHUNK = 4096  # files looked up by one query; SQLite allows 32,766 names
_SETTLED_NS = 2_000_000_000  # a file changed less than 2 s ago may change again under the same time stamp
_LOCK_SECONDS = 2.0  # that a query waits for other processes
_FLUSH_SECONDS = 1.0
_FIRST_REPORT = 2.0
_NEXT_REPORT = 10.0
_TABLE = """create table if not exists digests
    (kind text, path blob, version text, digest text, primary key (kind, path)) without rowid"""
_INSERT = "insert or replace into digests values (?, ?, ?, ?)"

Compute = Callable[[Path], str]


def hash_bytes(file: Path) -> str:
    """sha256 of a file's bytes, 64 hex digits: the digest of the kind "bytes"."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def cached_digests(files: Sequence[Path], kind: str, compute: Compute) -> list[str]:
    """The digest of each file, computed in parallel threads where the cache has none for the file's present version.

    `kind` names what `compute` returns: another kind of the same file is another entry. Files that changed less than
    2 s ago are not kept. Raises OSError for a file that cannot be read, and what `compute` raises.
    """
    return list(iter_digests(files, kind, compute))


def iter_digests(files: Sequence[Path], kind: str, compute: Compute) -> Iterator[str]:
    """As `cached_digests`, in pieces, so that millions of files need little memory; reports progress after 2 s."""
    workers = os.cpu_count() or 1
    progress = _Progress(len(files))
    remaining = iter(files)
    with _Store(kind) as store:
        pool = ThreadPoolExecutor(workers)
        try:
            while chunk := list(itertools.islice(remaining, _CHUNK)):
                yield from _digest_chunk(chunk, compute, store, pool, progress)
        finally:
            pool.shutdown(cancel_futures=True)
    if store.problem and progress.has_reported:
        hint = "MERGE_SWEEP_CACHE names another folder for it"
        _log.warning(printable(f"the digests of these files are not kept: {store.problem}; {hint}"))


def _digest_chunk(
    files: Sequence[Path], compute: Compute, store: _Store, pool: ThreadPoolExecutor, progress: _Progress
) -> list[str]:
    now = time.time_ns()
    names = [_name(file) for file in files]
    statuses = [os.stat(name) for name in names]  # noqa: PTH116 - names in bytes, a million of them
    versions = [f"{each.st_size} {each.st_mtime_ns} {each.st_ctime_ns} {each.st_ino}" for each in statuses]
    known = store.find(names)
    digests = [known.get((name, version), "") for name, version in zip(names, versions, strict=True)]
    missing = [place for place, digest in enumerate(digests) if not digest]
    progress.add(len(files) - len(missing))
    computed = _in_slices([files[place] for place in missing], compute, pool)
    for place, digest in zip(missing, computed, strict=True):
        digests[place] = digest
        progress.add(1)
        if now - statuses[place].st_mtime_ns > _SETTLED_NS:
            store.add(names[place], versions[place], digest)
    return digests


def _in_slices(files: Sequence[Path], compute: Compute, pool: ThreadPoolExecutor) -> Iterator[str]:
    """Digests in the order of the files; several small files per task, since starting a task takes time, too."""
    length = max(1, min(64, len(files) // (8 * (os.cpu_count() or 1))))
    slices = [files[start : start + length] for start in range(0, len(files), length)]
    for digests in pool.map(lambda several: [compute(file) for file in several], slices):
        yield from digests


def _name(file: Path) -> bytes:
    """The absolute path in the bytes of the file system; links in it are not followed."""
    return os.path.abspath(os.fsencode(file))  # noqa: PTH100 - resolve() follows links, and asks the disk for each part


class _Store:
    """The database, or nothing where it cannot be used. Used by one thread."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.file: Path | None = None
        self.database: sqlite3.Connection | None = None
        self.problem = ""  # why digests are not kept
        self.pending: list[tuple[str, bytes, str, str]] = []
        self.last_flush = time.monotonic()

    def __enter__(self) -> _Store:
        try:
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            self.file = folder / "digests.sqlite"
            self._open(self.file)
        except (OSError, UserError, sqlite3.Error) as error:
            self._give_up(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        if self.database:
            self.database.close()

    def _open(self, file: Path) -> None:
        self.database = sqlite3.connect(file, timeout=_LOCK_SECONDS, isolation_level=None)
        self.database.execute("pragma synchronous = off")  # what a power failure damages is made again
        self.database.execute(_TABLE)

    def find(self, names: Sequence[bytes]) -> dict[tuple[bytes, str], str]:
        """(Name, version) -> digest, of the names that are known."""
        if not self.database:
            return {}
        marks = ",".join("?" * len(names))
        query = f"select path, version, digest from digests where kind = ? and path in ({marks})"
        try:
            rows = self.database.execute(query, [self.kind, *names]).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return {}
        return {(path, version): digest for path, version, digest in rows if isinstance(digest, str)}

    def add(self, name: bytes, version: str, digest: str) -> None:
        """Keep a digest; written within seconds, so that an interruption loses little."""
        self.pending.append((self.kind, name, version, digest))
        if time.monotonic() - self.last_flush > _FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        if self.database and self.pending and not self.problem:
            try:
                self._insert(self.database)
            except sqlite3.OperationalError as error:  # locked, read-only or full: what is kept can still be read
                self.problem = f"{self.file}: {error}"
            except sqlite3.Error as error:
                self._give_up(error)
        self.pending.clear()
        self.last_flush = time.monotonic()

    def _insert(self, database: sqlite3.Connection) -> None:
        database.execute("begin immediate")
        try:
            database.executemany(_INSERT, self.pending)
            database.execute("commit")
        finally:
            if database.in_transaction:
                database.execute("rollback")

    def _give_up(self, error: Exception) -> None:
        """Go on without the database; one that is damaged is removed, so that the next look makes a new one."""
        self.problem = f"{self.file or 'no cache folder'}: {error}"
        if self.database:
            self.database.close()
            self.database = None
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if damaged and self.file:
            with suppress(OSError):
                self.file.unlink(missing_ok=True)
                self.file.with_name(f"{self.file.name}-journal").unlink(missing_ok=True)


class _Progress:
    """Logs how many files are done, first after 2 s and then every 10 s."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.start = time.monotonic()
        self.next = self.start + _FIRST_REPORT
        self.has_reported = False

    def add(self, count: int) -> None:
        """Count files as done."""
        self.done += count
        now = time.monotonic()
        if now < self.next or not 0 < self.done < self.total:
            return
        self.next = now + _NEXT_REPORT
        self.has_reported = True
        rest = (now - self.start) * (self.total - self.done) / self.done
        _log.warning(f"reading files: {self.done:,} of {self.total:,}, about {format_duration(rest)} left")
