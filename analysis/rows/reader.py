"""One table of a run folder as a frame that a million rows fit in: repeated texts and lists are held once."""

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
"""Texts of which a row may have its own: objects, as taking rows copies no text then. All others become categories."""

CHUNK = 100_000
Lists = dict[str, dict[str, np.ndarray]]


def frame(folder: Path, name: str, key: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """The planned rows of a table, one per key, in the order of the keys whatever the order of the parts.

    Also the number of rows that were left out for another of the same key; an `ok` one counts first. A table with
    `members` has `subset`, too: the members as one text. Raises OSError or ValueError for parts that cannot be read.
    """
    lists: Lists = {}
    chunks = [_narrow(chunk, key, lists) for chunk in _chunks(folder, name)] or [_narrow(_empty(name), key, lists)]
    rows = pa.concat_tables(chunks).unify_dictionaries()
    plan = table.planned(folder, name)
    if plan is not None:
        rows = rows.filter(pc.is_in(rows[plan[0]], value_set=plan[1]))
    order, repeated = _order(rows, key)
    del chunks  # each name that holds rows would hold them a second time
    rows = rows.combine_chunks()
    rows = rows.take(order)
    found = rows.to_pandas(split_blocks=True, self_destruct=True)
    return _newest_names(_widened(found, lists)), repeated


def _empty(name: str) -> pa.Table:
    """A table without rows."""
    return table.schema(name).empty_table()


def _chunks(folder: Path, name: str) -> Iterator[pa.Table]:
    """The rows, many at a time: parts may be small."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in table.batches(folder, name):
        held.append(batch)
        count += batch.num_rows
        if count >= CHUNK:
            whole, held, count = pa.Table.from_batches(held), [], 0
            yield whole
    if held:
        yield pa.Table.from_batches(held)


def _narrow(chunk: pa.Table, key: Sequence[str], lists: Lists) -> pa.Table:
    """Texts and lists as numbers into a dictionary; what each list looks like is put into `lists`."""
    for place, field in enumerate(chunk.schema):
        column = chunk.column(place).combine_chunks()
        if pa.types.is_list(field.type):
            column = _known(column, lists.setdefault(field.name, {}))
        elif field.type != pa.string() or field.name in (*TEXTS, *key, "pool_id"):
            continue
        chunk = chunk.set_column(place, field.name, column.dictionary_encode())
    return chunk


def _known(column: pa.ListArray, lists: dict[str, np.ndarray]) -> pa.StringArray:
    """Lists as texts; a list that is met for the first time is put into `lists`."""
    texts = pc.binary_join(column.cast(pa.list_(pa.string())), SEPARATOR)
    numbers = texts.dictionary_encode()
    numbers, words = numbers.indices.to_numpy(zero_copy_only=False), numbers.dictionary.to_pylist()
    first = np.zeros(len(words), np.int64)
    known = np.flatnonzero(~np.isnan(numbers))[::-1]
    # The last that is written stays: the first row of each.
    first[numbers[known].astype(np.int64)] = known
    fresh = [place for place, word in enumerate(words) if word not in lists]
    for place, one in zip(fresh, column.take(pa.array(first[fresh])), strict=True):
        lists[words[place]] = np.array(one.as_py(), dtype=object if pa.types.is_string(one.type.value_type) else None)
    return texts


def _order(rows: pa.Table, key: Sequence[str]) -> tuple[pa.Array, int]:
    """Where each key's row stands, in the order of the keys, and how many rows repeat one."""
    # A retry leaves a failed row behind, and a compaction in progress shows rows twice: the `ok` one counts.
    keys = rows.select(key)
    lost = pc.not_equal(rows["status"].cast(pa.string()), "ok") if "status" in rows.column_names else None
    ranked = keys if lost is None else keys.append_column("lost", lost)
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
    """Categories in sorted order, and each row's lists: one object for all rows that have it."""
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
    """The lists of a column of texts; None where there is none."""
    shared = np.empty(len(column.cat.categories) + 1, object)
    for place, text in enumerate(column.cat.categories):
        shared[place] = lists[text]
    return pd.Series(shared[column.cat.codes], column.index)


def _sorted(column: pd.Series) -> pd.Series:
    """Texts as categories in sorted order, which is then the order of groups."""
    used = column.astype("category").cat.remove_unused_categories()
    # Objects: Arrow's strings would be made into Python's wherever a category is looked at.
    return used.cat.set_categories(pd.Index(sorted(used.cat.categories), dtype=object))


def _newest_names(rows: pd.DataFrame) -> pd.DataFrame:
    """Each pool under the population's name in its newest row: a sweep that grew may have renamed the population."""
    if "population" not in rows or not rows.drop_duplicates(["pool_id", "population"])["pool_id"].duplicated().any():
        return rows
    newest = rows.sort_values("created_at", kind="stable").groupby("pool_id", observed=True)["population"].last()
    return rows.assign(population=_sorted(rows["pool_id"].map(newest).astype(object)))
