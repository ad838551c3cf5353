"""Parquet files of a table: encoding, reading, replacing several files by one in one step, and deleting rows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweep.core.text import printable
from sweep.storage.columns import COLUMNS, KEYS
from sweep.storage.files import create_atomic, fsync_dir, storage_errors, write_atomic
from sweep.storage.tables import JOURNAL, journal, part_files, schema, with_current_names

Mask = Callable[[pa.Table], pa.ChunkedArray]
"""A function from the rows of a table to a boolean column that selects some of them."""

READ_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError)
"""Exceptions that pyarrow raises for damaged or foreign files."""


def key_in(key: str, values: pa.Array) -> Mask:
    """A mask of the rows whose key is one of the values."""
    return lambda rows: pc.is_in(rows[key], value_set=values)


def to_parquet(table: str, rows: pa.Table) -> bytes:
    """Encode rows as a Parquet file, with dictionaries for names and byte-stream split for floats: half the size."""
    columns = COLUMNS[table]
    floats = [column.name for column in columns if column.type == pa.float64()]
    unique = {"candidate_id", "member_id", "correct", "classes"}
    names = [c.name for c in columns if c.type == pa.string() and c.name not in unique]
    sink = pa.BufferOutputStream()
    how: dict[str, Any] = {"use_dictionary": names, "use_byte_stream_split": floats, "write_page_checksum": True}
    pq.write_table(rows, sink, compression="zstd", **how)
    return bytes(sink.getvalue().to_pybytes())


def rows_to_parquet(table: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Encode rows in the schema of a table as a Parquet file."""
    plain = [{key: printable(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]
    return to_parquet(table, pa.Table.from_pylist(plain, schema=schema(table)))


def concat_files(table: str, files: Sequence[Path]) -> pa.Table:
    """The rows of several files, with the columns of all of them."""
    tables = [schema(table).empty_table(), *(read_file(table, file) for file in files)]
    return pa.concat_tables(tables, promote_options="default").replace_schema_metadata(schema(table).metadata)


def read_file(table: str, file: Path) -> pa.Table:
    """All rows of one file, with the column names of today.

    Raises one of READ_ERRORS for a file that is damaged or of another table.
    """
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:  # twice as fast as read_table for small ones
        rows = opened.read()
    if is_other_table(table, rows.schema):
        raise ValueError(f"{file} is of another table than {table}")
    return with_current_names(table, rows)


def find_defect(table: str, file: Path) -> str:
    """Why a part cannot be used; empty for a readable part of this table."""
    try:
        rows = read_file(table, file)
        expected = schema(table)
        known = [name for name in rows.schema.names if name in expected.names]
        rows.select(known).cast(pa.schema([expected.field(name) for name in known])).validate(full=True)
    except READ_ERRORS as error:
        return str(error)
    return ""


def is_other_table(table: str, found: pa.Schema) -> bool:
    """Whether a file is of another table or program: in this table's schema its rows would be empty."""
    named = (found.metadata or {}).get(b"table")
    return named != table.encode() and (named is not None or not set(KEYS[table]) <= set(found.names))


def replace_files(folder: Path, table: str, files: Sequence[Path], rows: pa.Table) -> None:
    """Replace files by one file with these rows; readers see either side, also after a kill in between.

    The caller holds the lock of the run folder.
    """
    base = folder / "tables" / table
    content = to_parquet(table, rows) if rows.num_rows else b""
    name = f"compact/{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    replaced = [file.relative_to(base).as_posix() for file in files]
    if replaced == [name]:
        return
    entry = {"made": [name] if content else [], "replaced": [each for each in replaced if each != name]}
    write_atomic(base / JOURNAL, json.dumps(entry).encode())
    if content:
        create_atomic(base / name, content)
    finish_replacement(folder, table)


def finish_replacement(folder: Path, table: str) -> None:
    """Finish an interrupted replacement, or undo it. The caller holds the lock of the run folder."""
    base = folder / "tables" / table
    if not (base / JOURNAL).exists():
        return
    with storage_errors(base):
        made, replaced = journal(base)
        if all((base / name).exists() for name in made):
            for name in replaced:
                (base / name).unlink(missing_ok=True)
            for place in {(base / name).parent for name in replaced}:
                if place.is_dir():
                    fsync_dir(place)
        (base / JOURNAL).unlink()
        fsync_dir(base)


def delete_rows(folder: Path, table: str, gone: Mask, files: Sequence[Path] | None = None) -> int:
    """Move rows from a table to files below `retired`, which nothing reads; returns their number.

    The caller holds the lock of the run folder.
    """
    count = 0
    for file in part_files(folder, table) if files is None else files:
        rows = read_file(table, file)
        removed = rows.filter(gone(rows))
        if removed.num_rows:
            count += removed.num_rows
            create_atomic(_retired_name(folder, table, file), to_parquet(table, removed))
            replace_files(folder, table, [file], rows.filter(_invert(gone(rows))))
    return count


def quarantine(folder: Path, table: str, file: Path) -> None:
    """Move a file from its table to `retired`, if it exists."""
    target = _retired_name(folder, table, file)
    with storage_errors(target):
        if file.exists():
            target.parent.mkdir(exist_ok=True)
            file.rename(target)
            fsync_dir(file.parent)


def _retired_name(folder: Path, table: str, file: Path) -> Path:
    """An unused name below `retired`."""
    return folder / "retired" / f"{table}-{file.stem}-{os.urandom(4).hex()}{file.suffix}"


def _invert(mask: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.invert(pc.fill_null(mask, False))
