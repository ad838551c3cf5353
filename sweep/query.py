"""SQL over a run's tables, read-only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sweep.store import RunFolder, StoreError
from sweep.table import COLUMNS, part_files


def query_tables(run: Path, query: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of a query, and as lines. Files other than the run's tables are out of reach.

    Raises StoreError with the data base's own words for a query that is wrong.
    """
    import duckdb

    RunFolder(run).info()
    connection = duckdb.connect()
    for table in COLUMNS:
        files = [str(path) for path in part_files(run, table)]
        if files:
            connection.execute(f"create view {table} as select * from read_parquet({files!r}, union_by_name = true)")
    connection.execute(f"set allowed_directories = {[str(run)]!r}")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    try:
        relation = connection.sql(query)
    except duckdb.Error as error:
        raise StoreError(
            f"the query is wrong: {error}", 'sweep sql RUN "describe candidates" lists the columns'
        ) from None
    if relation is None:
        return [], ["done"]
    found = relation.to_arrow_table()
    rows = found.to_pylist()
    return rows, aligned([found.column_names, *[[_cell(row[key]) for key in row] for row in rows]])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value) if isinstance(value, list) else str(value)


def aligned(cells: list[list[str]]) -> list[str]:
    """Rows of cells as lines with columns of one width; the first row is the header."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
