"""How many candidates of a plan are done, counted in columns: for a million of them no object is made."""

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

_KEY = b"plan"
OUTLINE = b"outline"
"""Under this the metadata of `plan.parquet` hold what else is told of the plan."""
_NAMES = ("block_id", "pool_id", "method")  # few texts for many rows: dictionaries in memory


@dataclass(frozen=True)
class CandidateCounts:
    """Counts of candidates, and of blocks that are open."""

    planned: int
    new: int
    failed: int
    blocks: int
    methods: Mapping[str, int]
    left: Mapping[tuple[str, str, str], int]  # (pool_id, method, split) -> rows that are to come


def read_plan_table(folder: RunFolder) -> pa.Table | None:
    """Everything that was ever planned here, `planned` where it still is; None before the first time.

    Raises StoreError.
    """
    file = folder.path / "plan.parquet"
    if not file.exists():
        return None
    try:
        return pq.read_table(file, read_dictionary=list(_NAMES)).unify_dictionaries()
    except (pa.ArrowException, OSError) as error:
        hint = "move it aside: the plan is made anew, and what is done stays done"
        raise StoreError(f"cannot read {file}: {error}", hint) from None


def columns_of(plan: Plan) -> pa.Table:
    """The candidates that are planned now, as `plan.parquet` holds them."""
    rows = plan.candidates
    columns = {
        "candidate_id": hex_column(rows.ids),
        "block_id": _names(rows.block, rows.blocks),
        "pool_id": _names(rows.group_index, [each.pool_id for each in rows.groups]),
        "method": _names(rows.group_index, [each.method.name for each in rows.groups]),
    }
    return pa.table(columns | {"planned": pa.array(np.ones(len(rows), dtype=bool))})


def _names(places: Ints, texts: Sequence[str]) -> pa.DictionaryArray:
    """For each place its text; each text once in the dictionary, as whoever counts by it takes for granted."""
    unique = list(dict.fromkeys(texts))
    code = {text: place for place, text in enumerate(unique)}
    codes = np.array([code[text] for text in texts], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(codes[places], pa.array(unique, pa.string()))


def planned_blocks(before: pa.Table | None) -> PlannedBlocks:
    """What was planned before, with its blocks."""
    if before is None:
        return NO_BLOCKS
    blocks = before["block_id"].combine_chunks()
    names = blocks.dictionary.to_pylist()
    return PlannedBlocks.from_columns(
        parse_hex_ids(before["candidate_id"].to_pylist()), blocks.indices.to_numpy(), names
    )


def write_plan(folder: RunFolder, plan: Plan, outline: str) -> None:
    """Write what is planned now, with its key and outline; what was planned before stays, marked so."""
    rows, before = _dictionary_encode(columns_of(plan)), read_plan_table(folder)
    if before is not None:
        gone = _dictionary_encode(before.filter(pc.invert(pc.is_in(before["candidate_id"], rows["candidate_id"]))))
        gone = gone.drop_columns("planned").append_column("planned", pa.array(np.zeros(len(gone), dtype=bool)))
        rows = pa.concat_tables([rows, gone.replace_schema_metadata(None)], promote_options="default")
    sink = pa.BufferOutputStream()
    told = {_KEY: plan.key.encode(), OUTLINE: outline.encode()}
    pq.write_table(rows.replace_schema_metadata(told), sink, compression="zstd")
    write_atomic(folder.path / "plan.parquet", sink.getvalue().to_pybytes())


def _dictionary_encode(rows: pa.Table) -> pa.Table:
    """The names as texts, as they lie in the file."""
    return rows.cast(pa.schema([(c.name, pa.string() if c.name in _NAMES else c.type) for c in rows.schema]))


def current_plan(folder: RunFolder, key: str) -> pa.Table | None:
    """What is planned, where the plan in the folder is the one with this key; None where it has to be made first."""
    plan = read_plan_table(folder)
    if plan is None or (plan.schema.metadata or {}).get(_KEY) != key.encode():
        return None
    return in_plan(plan)


def in_plan(rows: pa.Table) -> pa.Table:
    """Those of the rows of `plan.parquet` that are planned still."""
    return rows if pc.all(rows["planned"]).as_py() else rows.filter(rows["planned"])


def missing_rows(rows: pa.Table, ids: pa.Array | pa.ChunkedArray, splits: Sequence[str]) -> NDArray[np.bool_]:
    """(candidates, splits): which have no row yet."""
    return np.stack([~_is_in(ids, rows["candidate_id"].filter(pc.equal(rows["split"], one))) for one in splits], axis=1)


def count_candidates(rows: pa.Table, plan: pa.Table, splits: Sequence[str]) -> CandidateCounts:
    """The counts of what is planned, by the id, split and status of the rows that are there."""
    ids, without = plan["candidate_id"], missing_rows(rows, plan["candidate_id"], splits)
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
    """The ids of candidates with a row that says failed."""
    return rows["candidate_id"].filter(pc.equal(rows["status"], "failed"))


def hex_column(ids: Ids) -> pa.Array:
    """Ids as people see them."""
    digits = hex_ids(ids)
    ends = np.arange(len(ids) + 1, dtype=np.int32) * digits.itemsize
    return pa.Array.from_buffers(pa.string(), len(ids), [None, pa.py_buffer(ends), pa.py_buffer(digits)])


def _is_in(ids: pa.Array | pa.ChunkedArray, others: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which of the ids are among others."""
    if not len(others):
        return np.zeros(len(ids), dtype=bool)
    return np.asarray(pc.is_in(ids, others.combine_chunks()))
