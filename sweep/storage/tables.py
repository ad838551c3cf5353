"""Reading the tables of a run folder.

Columns are only ever added, always nullable; readers pass the current schema, so older parts read with nulls.
A change of meaning needs a new `SCHEMA_VERSION` and an entry in `RENAMED`; folders of a newer version are refused.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from sweep.storage.columns import COLUMNS
from sweep.storage.files import StoreError

SCHEMA_VERSION = 2
RENAMED = {"candidates": {"ece": "ece_mass"}}
"""Table -> columns of files of schema version 1 -> what these columns are called since."""
JOURNAL = "compacting.json"
PLAN_COLUMNS = ("candidate_id", "block_id", "pool_id", "method", "planned")
OUTLINE = b"outline"
"""Key of the plan's summary in the metadata of `plan.parquet`."""
PLAN_HINT = "move it aside: the next sweep run or sweep plan makes the plan again, and finished candidates stay"
_ATTEMPTS = 5


def schema(table: str) -> pa.Schema:
    """The Arrow schema of a table, with meaning and unit in each field's metadata."""
    fields = [pa.field(c.name, c.type, metadata={"description": c.meaning, "unit": c.unit}) for c in COLUMNS[table]]
    return pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION), "table": table})


def part_files(folder: Path, table: str) -> list[Path]:
    """The files of a table in a run folder, sorted by name, without temporary files.

    During a compaction either the old files or the new file is listed, never both. Raises StoreError.
    """
    base = folder / "tables" / table
    while True:
        before = journal(base)
        parts = sorted((base / "parts").glob("*.parquet"))  # before the files that replace them: no row is missed
        whole = sorted((base / "compact").glob("*.parquet"))
        if journal(base) == before:
            break
    made, replaced = before
    hidden = replaced if made <= {file.relative_to(base).as_posix() for file in whole} else made
    return [file for file in [*whole, *parts] if file.relative_to(base).as_posix() not in hidden]


def journal(base: Path) -> tuple[set[str], set[str]]:
    """New files of a replacement in progress, and the files that they replace; usually both empty.

    As soon as all new files exist, they count and the others do not.
    """
    file = base / JOURNAL
    try:
        entry = json.loads(file.read_text("utf-8"))
        return set(entry["made"]), set(entry["replaced"])
    except (FileNotFoundError, NotADirectoryError):
        return set(), set()
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        hint = f"move it away; then sweep doctor {base.parent.parent} --repair removes rows that are there twice"
        raise StoreError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}", hint) from None


def read(folder: Path, table: str, columns: Iterable[str] | None = None, **equal: str) -> pa.Table:
    """All rows of a table, or those with the given values; columns that older parts lack are null."""
    names = None if columns is None else list(columns)
    conditions = [ds.field(name) == value for name, value in equal.items()]
    chosen = functools.reduce(operator.and_, conditions) if conditions else None
    for attempt in range(_ATTEMPTS):
        files = part_files(folder, table)
        if not files:
            break
        try:
            found = [scan.to_table() for scan in _scanners(files, table, names, chosen)]
            return found[0] if len(found) == 1 else pa.concat_tables(found)  # without columns it would lose the count
        except FileNotFoundError:  # a compaction replaced the files after they were listed
            if attempt == _ATTEMPTS - 1:
                raise
    empty = schema(table).empty_table()
    return empty if names is None else empty.select(names)


def failed_parts(folder: Path, table: str) -> set[Path]:
    """The uncompacted parts with a failed row."""
    files = [path for path in part_files(folder, table) if path.parent.name == "parts"]
    if not files:
        return set()
    found = _dataset(files, table).scanner(columns=["__filename"], filter=ds.field("status") == "failed").to_table()
    return {Path(name) for name in pc.unique(found["__filename"]).to_pylist()}


def batches(folder: Path, table: str) -> Iterator[pa.RecordBatch]:
    """The rows of `read` in the same order, batch by batch, for tables larger than memory."""
    for scan in _scanners(part_files(folder, table), table, None, None):
        yield from scan.to_batches()


def earlier_files(files: Iterable[Path], table: str) -> set[Path]:
    """The files of schema version 1 of a table with renamed columns."""
    return {file for file in files if _version(pq.read_schema(file)) < SCHEMA_VERSION} if table in RENAMED else set()


def with_current_names(table: str, rows: pa.Table) -> pa.Table:
    """All rows of one file, with the column names and the schema version of today."""
    if table not in RENAMED or _version(rows.schema) == SCHEMA_VERSION:
        return rows
    names = [RENAMED[table].get(name, name) for name in rows.schema.names]
    return rows.rename_columns(names).replace_schema_metadata(schema(table).metadata)


def _version(found: pa.Schema) -> int:
    """The schema version that a file states; the current one if it states none."""
    return int((found.metadata or {}).get(b"schema_version", SCHEMA_VERSION))


def _scanners(
    files: list[Path], table: str, names: list[str] | None, chosen: ds.Expression | None
) -> Iterator[ds.Scanner]:
    """Scanners of files, which give the same columns: one of files with current names, one of earlier files."""
    form = schema(table)
    wanted: list[str] = form.names if names is None else names
    renamed = RENAMED.get(table, {})
    concerned = {*renamed, *renamed.values()} & set(wanted)
    earlier = earlier_files(files, table) if concerned else set()
    current = [file for file in files if file not in earlier]
    if current:
        yield _dataset(current, table).scanner(columns=wanted, filter=chosen)
    if earlier:
        former = {new: ds.field(old) for old, new in renamed.items()}
        former |= {old: ds.scalar(pa.scalar(None, form.field(old).type)) for old in renamed}
        columns = {name: former.get(name, ds.field(name)) for name in wanted}
        yield _dataset([file for file in files if file in earlier], table).scanner(columns=columns, filter=chosen)


def _dataset(files: Iterable[Path], table: str) -> ds.Dataset:
    """A dataset of files in the current schema of a table, with checksums verified."""
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    form = ds.ParquetFileFormat(default_fragment_scan_options=options)
    return ds.dataset([str(path) for path in files], schema=schema(table), format=form)


def plan_defect(file: Path) -> str:
    """Why a plan.parquet cannot be used; empty for one that can be read."""
    try:
        found = set(pq.read_schema(file).names)
    except (pa.ArrowException, OSError) as error:
        return str(error)
    missing = [name for name in PLAN_COLUMNS if name not in found]
    return f"it is no plan: the column `{missing[0]}` is missing" if missing else ""


def planned(folder: Path, table: str) -> tuple[str, pa.Array] | None:
    """The column that links rows of a table to the current plan, and its values; None without a plan.

    A run folder also keeps rows of earlier plans. Candidates and predictions belong to a plan by candidate, other rows
    by pool. Raises StoreError for a damaged plan.
    """
    file = folder / "plan.parquet"
    if not file.exists():
        return None
    defect = plan_defect(file)
    if defect:
        raise StoreError(f"cannot read {file}: {defect}", PLAN_HINT)
    key = "candidate_id" if table in ("candidates", "predictions") else "pool_id"
    return key, pc.unique(pq.read_table(file, columns=[key], filters=[("planned", "=", True)])[key])


def plan_outline(folder: Path) -> dict[str, Any]:
    """The summary stored with the plan, as read from JSON; empty without a plan that has one."""
    try:
        found = json.loads((pq.read_schema(folder / "plan.parquet").metadata or {}).get(OUTLINE, b""))
    except (pa.ArrowException, OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_planned(folder: Path, table: str, columns: Iterable[str] | None = None) -> pa.Table:
    """The rows that belong to the current plan; all rows if there is no plan."""
    names = None if columns is None else list(columns)
    plan = planned(folder, table)
    if plan is None:
        return read(folder, table, names)
    key, values = plan
    rows = read(folder, table, None if names is None else dict.fromkeys([*names, key]))
    kept = rows.filter(pc.is_in(rows[key], value_set=values))
    return kept if names is None else kept.select(names)
