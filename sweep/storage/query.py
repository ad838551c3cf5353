"""SQL over a run's tables, read-only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sweep.core.text import align_columns
from sweep.storage.columns import COLUMNS
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import part_files

_HINT = 'sweep sql RUN "describe candidates" lists the columns'


def query_tables(run: Path, query: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of a query, and as lines. Files other than the run's tables are out of reach, and those are only read.

    Raises StoreError with the data base's own words for a query that is wrong.
    """
    import duckdb

    RunFolder(run).run_info()
    connection = duckdb.connect()
    try:
        for table in COLUMNS:
            files = ", ".join(_text(path) for path in part_files(run, table))
            if files:
                connection.execute(
                    f"create view {table} as select * from read_parquet([{files}], union_by_name = true)"
                )
        connection.execute(f"set allowed_directories = [{_text(run)}]")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        found = connection.sql(_one_question(connection.extract_statements(query))).to_arrow_table()
    except duckdb.Error as error:
        raise StoreError(f"the query is wrong: {error}", _HINT) from None
    names = _unique_names(found.column_names)
    rows = found.rename_columns(names).to_pylist()
    lines = align_columns([names, *[[_cell(value) for value in row.values()] for row in rows]])
    return rows, lines


def _one_question(statements: list[Any]) -> Any:
    """The only statement, if it asks and changes nothing. Raises StoreError."""
    if len(statements) != 1 or statements[0].type.name != "SELECT":
        raise StoreError("one query that only reads is due: select, from, with, describe, summarize or show", _HINT)
    return statements[0]


def _text(value: Path) -> str:
    """A path as SQL writes text."""
    return "'" + str(value).replace("'", "''") + "'"


def _unique_names(names: list[str]) -> list[str]:
    """Names of columns, those that are repeated with their number: `a`, `a_2`."""
    seen: list[str] = []
    for name in names:
        number, told = 1, name
        while told in seen:
            number += 1
            told = f"{name}_{number}"
        seen.append(told)
    return seen


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, default=str) if isinstance(value, list) else str(value)
