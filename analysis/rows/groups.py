"""Integer ids of groups of rows, for tables of a million rows; fastest if texts are categories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

_MANY = 2**53
_SPARSE = 8
"""Ids per row beyond which hashing is cheaper than a table of all ids."""


def group_ids(rows: pd.DataFrame, columns: Sequence[str]) -> tuple[Numbers, Numbers]:
    """The id of each row's group, from 0 in the order of the groups' values, and the position of each first row.

    Missing values equal each other and come last. Without columns all rows are one group.
    """
    number = np.zeros(len(rows), np.int64)
    groups = 1
    for name in columns:
        own, count = column_codes(rows[name])
        if groups * count > _MANY:
            number, groups = dense(number, groups)
        number = number * count + own
        groups = groups * count
    number, groups = dense(number, groups)
    first = np.zeros(groups, np.int64)
    # Written in reverse order, so the first row of each group remains.
    first[number[::-1]] = np.arange(len(rows))[::-1]
    return number, first


def column_codes(column: pd.Series) -> tuple[Numbers, int]:
    """The code of each value of a column, in sorted order with missing values last, and an upper bound of the codes."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        number = column.cat.codes.to_numpy(np.int64)
        count = len(column.cat.categories)
    else:
        number, values = pd.factorize(column, sort=True)
        count = len(values)
    return np.where(number < 0, count, number), count + 1


def dense(number: Numbers, bound: int) -> tuple[Numbers, int]:
    """Consecutive codes in the same order, and how many different ones there are."""
    if bound > _SPARSE * len(number):
        found, values = pd.factorize(number, sort=True)
        return found, len(values)
    known = np.zeros(bound, bool)
    known[number] = True
    return (np.cumsum(known) - 1)[number], int(known.sum())


def map_groups(rows: pd.DataFrame, columns: Sequence[str], text: Callable[..., str]) -> pd.Series:
    """`text` of some columns for each row, computed once per distinct row; categorical if the first column is."""
    number, first = group_ids(rows, columns)
    texts = [text(*kind) for kind in rows[list(columns)].iloc[first].itertuples(index=False, name=None)]
    if not isinstance(rows[columns[0]].dtype, pd.CategoricalDtype):
        return pd.Series(np.array(texts, dtype=object)[number], rows.index, dtype=str)
    known = {one: place for place, one in enumerate(sorted(set(texts)))}
    places = np.array([known[one] for one in texts], dtype=np.int64)
    return pd.Series(pd.Categorical.from_codes(places[number], pd.Index(list(known), dtype=object)), rows.index)


def concat_rows(rows: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    """Two frames of the same columns as one; categories stay categories, those of both in sorted order."""
    return concat_all([rows, more[rows.columns]])


def concat_all(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames of the same columns as one; categories stay categories, those of all frames in sorted order."""
    frames = [frame.copy(deep=False) for frame in frames]
    for name, column in frames[0].items():
        if not isinstance(column.dtype, pd.CategoricalDtype) or all(one[name].dtype == column.dtype for one in frames):
            continue
        known = set().union(*(_distinct(one[name]) for one in frames))
        every = pd.CategoricalDtype(pd.Index(sorted(known), dtype=column.cat.categories.dtype))
        for one in frames:
            one[name] = one[name].astype(every)
    return pd.concat(frames, ignore_index=True)


def _distinct(column: pd.Series) -> Iterable[Any]:
    """The categories of a column, or its values."""
    categorical = isinstance(column.dtype, pd.CategoricalDtype)
    found: Iterable[Any] = column.cat.categories if categorical else column.dropna().unique()
    return found
