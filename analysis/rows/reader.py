"""A table of a run folder as a compact data frame: repeated texts and lists are stored once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sweep.storage import tables as table

SEPARATOR = "|"
TEXTS = ("candidate_id", "error", "other_metrics")
"""Texts that are mostly unique: objects, so that selecting rows copies no text. All others become categories."""

CHUNK = 100_000
Lists = dict[str, dict[str, np.ndarray]]


def frame(folder: Path, name: str, key: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """The planned rows of a table, one per key, in the order of the keys whatever the order of the parts.

    Also returns the number of duplicate rows that were dropped; rows with status `ok` are preferred. A table with
    `members` has a column `subset` with the members as one text. Raises OSError or ValueError for parts that cannot be
    read.
    """
    lists: Lists = {}
    chunks = [_narrow(chunk, key, lists) for chunk in _chunks(folder, name)] or [_narrow(_empty(name), key, lists)]
    rows = pa.concat_tables(chunks).unify_dictionaries()
    plan = table.planned(folder, name)
    if plan is not None:
        rows = rows.filter(pc.is_in(rows[plan[0]], value_set=plan[1]))
    order, repeated = _order(rows, key)
    del chunks  # frees memory: the table would be kept twice
    rows = rows.combine_chunks()
    rows = rows.take(order)
    found = rows.to_pandas(split_blocks=True, self_destruct=True)
    return _newest_names(_widened(found, lists)), repeated


def _empty(name: str) -> pa.Table:
    """A table without rows."""
    return table.schema(name).empty_table()


def _chunks(folder: Path, name: str) -> Iterator[pa.Table]:
    """The rows in large chunks; parts may be small."""
    batches: list[pa.RecordBatch] = []
    count = 0
    for batch in table.batches(folder, name):
        batches.append(batch)
        count += batch.num_rows
        if count >= CHUNK:
            whole = pa.Table.from_batches(batches)
            batches = []
            count = 0
            yield whole
    if batches:
        yield pa.Table.from_batches(batches)


def _narrow(chunk: pa.Table, key: Sequence[str], lists: Lists) -> pa.Table:
    """Dictionary-encode texts and lists; adds each distinct list to `lists`."""
    for place, field in enumerate(chunk.schema):
        column = chunk.column(place).combine_chunks()
        if pa.types.is_list(field.type):
            column = _known(column, lists.setdefault(field.name, {}))
        elif field.type != pa.string() or field.name in (*TEXTS, *key, "pool_id"):
            continue
        chunk = chunk.set_column(place, field.name, column.dictionary_encode())
    return chunk


def _known(column: pa.ListArray, lists: dict[str, np.ndarray]) -> pa.StringArray:
    """Lists as texts; adds new lists to `lists`."""
    texts = pc.binary_join(column.cast(pa.list_(pa.string())), SEPARATOR)
    numbers = texts.dictionary_encode()
    words = numbers.dictionary.to_pylist()
    numbers = numbers.indices.to_numpy(zero_copy_only=False)
    first = np.zeros(len(words), np.int64)
    known = np.flatnonzero(~np.isnan(numbers))[::-1]
    # Written in reverse order, so the first row of each remains.
    first[numbers[known].astype(np.int64)] = known
    fresh = [place for place, word in enumerate(words) if word not in lists]
    for place, one in zip(fresh, column.take(pa.array(first[fresh])), strict=True):
        lists[words[place]] = np.array(one.as_py(), dtype=object if pa.types.is_string(one.type.value_type) else None)
    return texts


def _order(rows: pa.Table, key: Sequence[str]) -> tuple[pa.Array, int]:
    """The position of one row per key, in the order of the keys, and the number of duplicates."""
    # A retry leaves a failed row behind, and a compaction in progress duplicates rows: prefer the `ok` row.
    keys = rows.select(key)
    not_ok = pc.not_equal(rows["status"].cast(pa.string()), "ok") if "status" in rows.column_names else None
    ranked = keys if not_ok is None else keys.append_column("not_ok", not_ok)
    order = pc.sort_indices(ranked, sort_keys=[(name, "ascending") for name in ranked.column_names])
    if rows.num_rows < 2:
        return order, 0
    keys = keys.take(order)
    fresh = np.zeros(rows.num_rows, bool)
    fresh[0] = True
    for name in key:
        fresh[1:] |= pc.not_equal(keys[name][1:], keys[name][:-1]).to_numpy().astype(bool)
    return order.filter(pa.array(fresh)), int((~fresh).sum())


def _widened(found: pd.DataFrame, lists: Lists) -> pd.DataFrame:
    """Sort categories, and restore lists, with one object for all rows that have the same list."""
    columns = {}
    for name in found:
        column = found[name]
        if name in lists:
            columns[name] = _listed(column, lists[name])
        elif name in TEXTS:
            columns[name] = column.astype(object)
        elif isinstance(column.dtype, pd.CategoricalDtype) or column.dtype == "str":
            columns[name] = _sorted(column)
    if "members" in found:
        columns["subset"] = _sorted(found["members"])
    return found.assign(**columns)


def _listed(column: pd.Series, lists: dict[str, np.ndarray]) -> pd.Series:
    """The lists of a column of texts; None for missing values."""
    shared = np.empty(len(column.cat.categories) + 1, object)
    for place, text in enumerate(column.cat.categories):
        shared[place] = lists[text]
    return pd.Series(shared[column.cat.codes], column.index)


def _sorted(column: pd.Series) -> pd.Series:
    """Texts as sorted categories, so that groups are sorted."""
    used = column.astype("category").cat.remove_unused_categories()
    # Objects: Arrow strings would be converted to Python strings at every access of a category.
    return used.cat.set_categories(pd.Index(sorted(used.cat.categories), dtype=object))


def _newest_names(rows: pd.DataFrame) -> pd.DataFrame:
    """Give each pool the population name of its newest row: an extended sweep may have renamed the population."""
    if "population" not in rows or not rows.drop_duplicates(["pool_id", "population"])["pool_id"].duplicated().any():
        return rows
    newest = rows.sort_values("created_at", kind="stable").groupby("pool_id", observed=True)["population"].last()
    return rows.assign(population=_sorted(rows["pool_id"].map(newest).astype(object)))
