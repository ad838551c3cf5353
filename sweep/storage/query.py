"""Read-only SQL over the tables of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sweep.core.text import align_columns
from sweep.storage.columns import COLUMNS
from sweep.storage.files import StoreError
from sweep.storage.parts import READ_ERRORS
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import RENAMED, earlier_files, part_files

if TYPE_CHECKING:
    import pyarrow as pa

_HINT = 'sweep sql RUN "describe candidates" lists the columns'


def query_tables(run: Path, query: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a query, and the same as lines of text. The query can read the run's tables and no other files.

    Raises StoreError with DuckDB's message for an invalid query.
    """
    RunFolder(run).run_info()
    with _without_backslash(run) as place:
        found = _query(place, query)
    names = _unique_names(found.column_names)
    rows = found.rename_columns(names).to_pylist()
    lines = align_columns([names, *[[_cell(value) for value in row.values()] for row in rows]])
    return rows, lines


@contextmanager
def _without_backslash(run: Path) -> Iterator[Path]:
    """The run folder by a path without a backslash: in patterns, as which DuckDB reads paths, it separates folders."""
    if "\\" not in str(run.absolute()):
        yield run
        return
    with TemporaryDirectory() as folder:
        link = Path(folder) / "run"
        link.symlink_to(run.absolute(), target_is_directory=True)
        yield link


def _query(run: Path, query: str) -> pa.Table:
    """The rows of a query of the tables of a run folder."""
    import duckdb

    connection = duckdb.connect()
    for table in COLUMNS:
        try:
            rows = _rows_of(table, part_files(run, table))
            if rows:
                connection.execute(f"create view {table} as {rows}")
        except (duckdb.Error, *READ_ERRORS) as error:
            raise RunFolder(run).read_error(table, error) from None
    try:
        connection.execute(f"set allowed_directories = [{_text(run)}, {_file_text(run)}]")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        return connection.sql(_select_statement(connection.extract_statements(query))).to_arrow_table()
    except duckdb.Error as error:
        raise StoreError(f"the query is wrong: {error}", _HINT) from None


def _rows_of(table: str, files: list[Path]) -> str:
    """A query for the rows of files, those of earlier versions with the column names of today; empty for no files."""
    earlier = earlier_files(files, table)
    renamed = ", ".join(f"{old} as {new}" for old, new in RENAMED.get(table, {}).items())
    parts = {"*": [file for file in files if file not in earlier]}
    parts |= {f"* rename ({renamed})": [file for file in files if file in earlier]}
    options = "union_by_name = true, hive_partitioning = false"  # a folder `lr=0.1` makes no column
    return " union all by name ".join(
        f"select {columns} from read_parquet([{', '.join(_file_text(file) for file in own)}], {options})"
        for columns, own in parts.items()
        if own
    )


def _select_statement(statements: list[Any]) -> Any:
    """The only statement, if it is a query. Raises StoreError."""
    if len(statements) != 1 or statements[0].type.name != "SELECT":
        raise StoreError("expected one query that only reads: select, from, with, describe, summarize or show", _HINT)
    return statements[0]


def _text(value: Path) -> str:
    """A path as an SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def _file_text(file: Path) -> str:
    """A path as an SQL string that DuckDB, which reads paths as patterns, takes for this path alone."""
    return _text(Path(re.sub(r"([*?[])", r"[\1]", str(file))))


def _unique_names(names: list[str]) -> list[str]:
    """Column names with repeated names numbered: `a`, `a_2`."""
    seen: list[str] = []
    for name in names:
        number = 1
        unique = name
        while unique in seen:
            number += 1
            unique = f"{name}_{number}"
        seen.append(unique)
    return seen


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, default=str) if isinstance(value, list) else str(value)
