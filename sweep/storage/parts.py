"""The files of a table: how rows become one, how many become one, and how rows are taken out, at no moment twice."""

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

from sweep.storage.columns import COLUMNS, KEYS
from sweep.storage.files import create_atomic, fsync_dir, storage_errors, write_atomic
from sweep.storage.tables import JOURNAL, journal, part_files, schema

Mask = Callable[[pa.Table], pa.ChunkedArray]
"""Which rows of a table are meant."""

READ_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError)
"""What a file that is damaged, or none of ours, is answered with."""


def key_in(key: str, values: pa.Array) -> Mask:
    """The rows whose key is one of the values."""
    return lambda rows: pc.is_in(rows[key], value_set=values)


def to_parquet(table: str, rows: pa.Table) -> bytes:
    """Rows as a Parquet file; dictionaries for names, byte-stream split for floats: half of the default's size."""
    columns = COLUMNS[table]
    floats = [column.name for column in columns if column.type == pa.float64()]
    unique = {"candidate_id", "member_id", "correct", "classes"}
    names = [c.name for c in columns if c.type == pa.string() and c.name not in unique]
    sink = pa.BufferOutputStream()
    how: dict[str, Any] = {"use_dictionary": names, "use_byte_stream_split": floats, "write_page_checksum": True}
    pq.write_table(rows, sink, compression="zstd", **how)
    return bytes(sink.getvalue().to_pybytes())


def rows_to_parquet(table: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows in the schema of a table, encoded."""
    return to_parquet(table, pa.Table.from_pylist([dict(row) for row in rows], schema=schema(table)))


def concat_files(table: str, files: Sequence[Path]) -> pa.Table:
    """The rows of some files with every column that any of them has."""
    tables = [schema(table).empty_table(), *(read_file(table, file) for file in files)]
    return pa.concat_tables(tables, promote_options="default").replace_schema_metadata(schema(table).metadata)


def read_file(table: str, file: Path) -> pa.Table:
    """All rows of one file. Raises one of BROKEN for a file that is damaged or of another table."""
    with pq.ParquetFile(file, page_checksum_verification=True) as opened:  # twice as fast as read_table for small ones
        rows = opened.read()
    if is_other_table(table, rows.schema):
        raise ValueError(f"{file} is of another table than {table}")
    return rows


def find_defect(table: str, file: Path) -> str:
    """What is wrong with a part: empty for one that can be read and is of this table."""
    try:
        rows, whole = read_file(table, file), schema(table)
        ours = [name for name in rows.schema.names if name in whole.names]
        rows.select(ours).cast(pa.schema([whole.field(name) for name in ours])).validate(full=True)
    except READ_ERRORS as error:
        return str(error)
    return ""


def is_other_table(table: str, found: pa.Schema) -> bool:
    """Whether a file is of another table, or not ours at all: read in this table's schema its rows would be empty."""
    named = (found.metadata or {}).get(b"table")
    return named != table.encode() and (named is not None or not set(KEYS[table]) <= set(found.names))


def replace_files(folder: Path, table: str, files: Sequence[Path], rows: pa.Table) -> None:
    """Let one file with these rows stand for others; whoever reads meanwhile, and after a kill, sees either.

    The caller holds the lock of the run folder.
    """
    base = folder / "tables" / table
    content = to_parquet(table, rows) if rows.num_rows else b""
    name = f"compact/{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    replaced = [file.relative_to(base).as_posix() for file in files]
    if replaced == [name]:
        return
    told = {"made": [name] if content else [], "replaced": [each for each in replaced if each != name]}
    write_atomic(base / JOURNAL, json.dumps(told).encode())
    if content:
        create_atomic(base / name, content)
    finish_replacement(folder, table)


def finish_replacement(folder: Path, table: str) -> None:
    """Bring an exchange that was begun to its end, or take it back. The caller holds the lock of the run folder."""
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
    """Move rows out of a table into files below `retired`, which nothing reads; how many there were.

    The caller holds the lock of the run folder.
    """
    count = 0
    for file in part_files(folder, table) if files is None else files:
        rows = read_file(table, file)
        out = rows.filter(gone(rows))
        if out.num_rows:
            count += out.num_rows
            create_atomic(_aside(folder, table, file), to_parquet(table, out))
            replace_files(folder, table, [file], rows.filter(_others(gone(rows))))
    return count


def quarantine(folder: Path, table: str, file: Path) -> None:
    """Move a file out of its table, if it is there."""
    target = _aside(folder, table, file)
    with storage_errors(target):
        if file.exists():
            target.parent.mkdir(exist_ok=True)
            file.rename(target)
            fsync_dir(file.parent)


def _aside(folder: Path, table: str, file: Path) -> Path:
    """A name below `retired` that is not taken."""
    return folder / "retired" / f"{table}-{file.stem}-{os.urandom(4).hex()}{file.suffix}"


def _others(mask: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.invert(pc.fill_null(mask, False))
