"""The tables of a run folder: every column with its meaning and unit.

Columns are only ever added, always nullable; a reader passes the current schema, so older parts read with nulls.
A change of meaning needs a new major `SCHEMA_VERSION`, and folders of a newer one are refused.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from sweep.storage.columns import COLUMNS

SCHEMA_VERSION = 1
JOURNAL = "compacting.json"
_ATTEMPTS = 5


def schema(table: str) -> pa.Schema:
    """The Arrow schema of a table, with meaning and unit in each field's metadata."""
    fields = [pa.field(c.name, c.type, metadata={"description": c.meaning, "unit": c.unit}) for c in COLUMNS[table]]
    return pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION), "table": table})


def part_files(folder: Path, table: str) -> list[Path]:
    """The files of a table in a run folder, in the order of their names; temporary ones have another ending.

    While parts are put together, either they or what they became is listed, and never both.
    """
    base = folder / "tables" / table
    while True:
        before = journal(base)
        parts = sorted((base / "parts").glob("*.parquet"))  # before those that they become: none is missed
        whole = sorted((base / "compact").glob("*.parquet"))
        if journal(base) == before:
            break
    made, replaced = before
    hidden = replaced if made <= {file.relative_to(base).as_posix() for file in whole} else made
    return [file for file in [*whole, *parts] if file.relative_to(base).as_posix() not in hidden]


def journal(base: Path) -> tuple[set[str], set[str]]:
    """Files of a table that are made of others just now, and those others; both empty as a rule.

    From the moment that all of the first are there, they stand for the second.
    """
    try:
        told = json.loads((base / JOURNAL).read_text("utf-8"))
    except FileNotFoundError:
        return set(), set()
    return set(told["made"]), set(told["replaced"])


def read(folder: Path, table: str, columns: Iterable[str] | None = None, **equal: str) -> pa.Table:
    """All rows of a table, or those whose columns equal what is given; older parts are filled up with nulls."""
    names = None if columns is None else list(columns)
    conditions = [ds.field(name) == value for name, value in equal.items()]
    chosen = functools.reduce(operator.and_, conditions) if conditions else None
    for attempt in range(_ATTEMPTS):
        files = [str(path) for path in part_files(folder, table)]
        if not files:
            break
        try:
            return _dataset(files, table).to_table(columns=names, filter=chosen)
        except FileNotFoundError:  # parts were put together since they were listed
            if attempt == _ATTEMPTS - 1:
                raise
    empty = schema(table).empty_table()
    return empty if names is None else empty.select(names)


def failed_parts(folder: Path, table: str) -> set[Path]:
    """The parts that hold a failed row."""
    files = [str(path) for path in part_files(folder, table) if path.parent.name == "parts"]
    if not files:
        return set()
    found = _dataset(files, table).scanner(columns=["__filename"], filter=ds.field("status") == "failed").to_table()
    return {Path(name) for name in pc.unique(found["__filename"]).to_pylist()}


def batches(folder: Path, table: str) -> Iterator[pa.RecordBatch]:
    """The rows of `read`, in its order, a batch at a time: for tables that memory should not hold whole."""
    files = [str(path) for path in part_files(folder, table)]
    if files:
        yield from _dataset(files, table).to_batches()


def _dataset(files: list[str], table: str) -> ds.Dataset:
    """Files in the current schema of a table; a page whose bits have changed is not read."""
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    form = ds.ParquetFileFormat(default_fragment_scan_options=options)
    return ds.dataset(files, schema=schema(table), format=form)


def planned(folder: Path, table: str) -> tuple[str, pa.Array] | None:
    """The column by which rows of a table belong to the current plan, and its values; None where there is no plan.

    A run folder keeps what earlier plans asked for, too: candidates and predictions by candidate, all else by pool.
    """
    file = folder / "plan.parquet"
    if not file.exists():
        return None
    key = "candidate_id" if table in ("candidates", "predictions") else "pool_id"
    return key, pc.unique(pq.read_table(file, columns=[key], filters=[("planned", "=", True)])[key])


def read_planned(folder: Path, table: str, columns: Iterable[str] | None = None) -> pa.Table:
    """The rows that belong to the current plan; everything, where there is none."""
    names, plan = None if columns is None else list(columns), planned(folder, table)
    if plan is None:
        return read(folder, table, names)
    key, values = plan
    rows = read(folder, table, None if names is None else dict.fromkeys([*names, key]))
    kept = rows.filter(pc.is_in(rows[key], value_set=values))
    return kept if names is None else kept.select(names)
