"""Counts how many candidates of a plan are done, on Arrow columns, so that a million candidates stay cheap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sweep.plan.candidates import NO_BLOCKS, Ids, Ints, PlannedBlocks, hex_ids, parse_hex_ids
from sweep.plan.planner import Plan
from sweep.storage.files import StoreError, write_atomic
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import OUTLINE, PLAN_HINT, plan_defect

_KEY = b"plan"
_NAMES = ("block_id", "pool_id", "method")  # few values for many rows: dictionary-encoded in memory


@dataclass(frozen=True)
class CandidateCounts:
    """Counts of candidates, and of blocks with missing rows."""

    planned: int
    new: int
    failed: int
    blocks: int
    methods: Mapping[str, int]
    left: Mapping[tuple[str, str, str], int]  # (pool_id, method, split) -> missing rows


def read_plan_table(folder: RunFolder) -> pa.Table | None:
    """All candidates of this and earlier plans; `planned` is true for the current one. None before the first plan.

    Raises StoreError.
    """
    file = folder.path / "plan.parquet"
    if not file.exists():
        return None
    defect = plan_defect(file)
    if defect:
        raise StoreError(f"cannot read {file}: {defect}", PLAN_HINT)
    try:
        return pq.read_table(file, read_dictionary=list(_NAMES)).unify_dictionaries()
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"cannot read {file}: {error}", PLAN_HINT) from None


def columns_of(plan: Plan) -> pa.Table:
    """The candidates of a plan as columns of `plan.parquet`."""
    rows = plan.candidates
    columns = {
        "candidate_id": hex_column(rows.ids),
        "block_id": _dictionary_column(rows.block, rows.blocks),
        "pool_id": _dictionary_column(rows.group_index, [each.pool_id for each in rows.groups]),
        "method": _dictionary_column(rows.group_index, [each.method.name for each in rows.groups]),
    }
    return pa.table(columns | {"planned": pa.array(np.ones(len(rows), dtype=bool))})


def _dictionary_column(positions: Ints, texts: Sequence[str]) -> pa.DictionaryArray:
    """Dictionary-encoded `texts[positions]`. Dictionary values are unique; `group_by` relies on it."""
    unique = list(dict.fromkeys(texts))
    code = {text: position for position, text in enumerate(unique)}
    codes = np.array([code[text] for text in texts], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(codes[positions], pa.array(unique, pa.string()))


def planned_blocks(before: pa.Table | None) -> PlannedBlocks:
    """The candidates of earlier plans with their blocks."""
    if before is None:
        return NO_BLOCKS
    blocks = before["block_id"].combine_chunks()
    names = blocks.dictionary.to_pylist()
    return PlannedBlocks.from_columns(
        parse_hex_ids(before["candidate_id"].to_pylist()), blocks.indices.to_numpy(), names
    )


def write_plan(folder: RunFolder, plan: Plan, outline: str) -> None:
    """Write the plan with its key and summary; candidates of earlier plans stay with `planned` false."""
    rows = _decode(columns_of(plan))
    before = read_plan_table(folder)
    if before is not None:
        gone = _decode(before.filter(pc.invert(pc.is_in(before["candidate_id"], rows["candidate_id"]))))
        gone = gone.drop_columns("planned").append_column("planned", pa.array(np.zeros(len(gone), dtype=bool)))
        rows = pa.concat_tables([rows, gone.replace_schema_metadata(None)], promote_options="default")
    sink = pa.BufferOutputStream()
    metadata = {_KEY: plan.key.encode(), OUTLINE: outline.encode()}
    pq.write_table(rows.replace_schema_metadata(metadata), sink, compression="zstd")
    write_atomic(folder.path / "plan.parquet", sink.getvalue().to_pybytes())


def _decode(rows: pa.Table) -> pa.Table:
    """The rows with plain strings for dictionaries, as in the file."""
    return rows.cast(pa.schema([(c.name, pa.string() if c.name in _NAMES else c.type) for c in rows.schema]))


def current_plan(folder: RunFolder, key: str) -> pa.Table | None:
    """The candidates of the folder's plan if it has this key, else None."""
    plan = read_plan_table(folder)
    if plan is None or (plan.schema.metadata or {}).get(_KEY) != key.encode():
        return None
    return in_plan(plan)


def in_plan(rows: pa.Table) -> pa.Table:
    """The rows of `plan.parquet` that belong to the current plan."""
    return rows if pc.all(rows["planned"]).as_py() else rows.filter(rows["planned"])


def missing_rows(rows: pa.Table, ids: pa.Array | pa.ChunkedArray, splits: Sequence[str]) -> NDArray[np.bool_]:
    """Boolean mask (candidates, splits) of missing rows."""
    return np.stack([~_is_in(ids, rows["candidate_id"].filter(pc.equal(rows["split"], one))) for one in splits], axis=1)


def count_candidates(rows: pa.Table, plan: pa.Table, splits: Sequence[str]) -> CandidateCounts:
    """Count the candidates of a plan, given id, split and status of the existing rows."""
    ids = plan["candidate_id"]
    without = missing_rows(rows, ids, splits)
    left = Counter[tuple[str, str, str]]()
    for split, of_split in zip(splits, without.T, strict=True):
        counts = plan.filter(pa.array(of_split)).group_by(["pool_id", "method"]).aggregate([([], "count_all")])
        for each in counts.to_pylist():
            left[each["pool_id"], each["method"], split] = each["count_all"]
    is_open = without.any(axis=1)
    failed = _is_in(ids, failures(rows))
    blocks = len(pc.unique(plan["block_id"].filter(pa.array(is_open))))
    methods = {each["values"]: each["counts"] for each in pc.value_counts(plan["method"]).to_pylist()}
    return CandidateCounts(len(plan), int(is_open.sum()), int(failed.sum()), blocks, methods, left)


def failures(rows: pa.Table) -> pa.ChunkedArray:
    """Ids of candidates with a failed row."""
    return rows["candidate_id"].filter(pc.equal(rows["status"], "failed"))


def hex_column(ids: Ids) -> pa.Array:
    """Ids as hexadecimal text."""
    digits = hex_ids(ids)
    ends = np.arange(len(ids) + 1, dtype=np.int32) * digits.itemsize
    return pa.Array.from_buffers(pa.string(), len(ids), [None, pa.py_buffer(ends), pa.py_buffer(digits)])


def _is_in(ids: pa.Array | pa.ChunkedArray, others: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Boolean mask of the ids that are among others."""
    if not len(others):
        return np.zeros(len(ids), dtype=bool)
    return np.asarray(pc.is_in(ids, others.combine_chunks()))
