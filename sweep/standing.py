"""How many candidates of a plan are done, counted in columns: for a million of them no object is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweep.files import StoreError, replace
from sweep.plan import Plan, Work
from sweep.store import RunFolder

_KEY = b"plan"


@dataclass(frozen=True)
class Standing:
    """Counts of candidates, and of blocks that are open."""

    planned: int
    new: int
    failed: int
    blocks: int
    methods: Mapping[str, int]
    left: Mapping[tuple[str, str, str], int]  # (pool_id, method, split) -> rows that are to come


def earlier(folder: RunFolder) -> pa.Table | None:
    """Everything that was ever planned here, `planned` where it still is; None before the first time.

    Raises StoreError.
    """
    file = folder.path / "plan.parquet"
    if not file.exists():
        return None
    try:
        return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        hint = "move it aside: the plan is made anew, and what is done stays done"
        raise StoreError(f"cannot read {file}: {error}", hint) from None


def write_plan(folder: RunFolder, plan: Plan) -> None:
    """Write what is planned now, with its key; what was planned before stays, marked so."""
    ids, blocks, pools, methods = (
        [each.id for each in plan.candidates],
        [each.block for each in plan.candidates],
        [each.pool_id for each in plan.candidates],
        [each.method.name for each in plan.candidates],
    )
    columns = {"candidate_id": ids, "block_id": blocks, "pool_id": pools, "method": methods}
    rows = pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})
    rows = rows.append_column("planned", pa.array(np.ones(len(rows), dtype=bool)))
    before = earlier(folder)
    if before is not None:
        gone = before.filter(pc.invert(pc.is_in(before["candidate_id"], rows["candidate_id"])))
        gone = gone.drop_columns("planned").append_column("planned", pa.array(np.zeros(len(gone), dtype=bool)))
        rows = pa.concat_tables([rows, gone.replace_schema_metadata(None)], promote_options="default")
    sink = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata({_KEY: plan.key.encode()}), sink, compression="zstd")
    replace(folder.path / "plan.parquet", sink.getvalue().to_pybytes())


def standing(folder: RunFolder, key: str, splits: Sequence[str]) -> Standing | None:
    """The counts, where the plan in the folder is the one with this key; None where it has to be made first."""
    plan = earlier(folder)
    if plan is None or (plan.schema.metadata or {}).get(_KEY) != key.encode():
        return None
    if not pc.all(plan["planned"]).as_py():
        plan = plan.filter(plan["planned"])
    rows = folder.read("candidates", ["candidate_id", "split", "status"])
    ids, open_, left = plan["candidate_id"], np.zeros(len(plan), dtype=bool), Counter[tuple[str, str, str]]()
    for split in splits:
        there = rows["candidate_id"].filter(pc.equal(rows["split"], split))
        lacking = ~_among(ids, there)
        open_ |= lacking
        counts = plan.filter(pa.array(lacking)).group_by(["pool_id", "method"]).aggregate([([], "count_all")])
        for each in counts.to_pylist():
            left[each["pool_id"], each["method"], split] = each["count_all"]
    failed = _among(ids, rows["candidate_id"].filter(pc.equal(rows["status"], "failed")))
    blocks = plan["block_id"].filter(pa.array(open_))
    methods = {each["values"]: each["counts"] for each in pc.value_counts(plan["method"]).to_pylist()}
    return Standing(len(plan), int(open_.sum()), int(failed.sum()), pc.count_distinct(blocks).as_py(), methods, left)


def counted(plan: Plan, open_: Mapping[str, Work], statuses: Mapping[str, str]) -> Standing:
    """The counts of a plan that was made, and of what of its blocks is open."""
    todo = [(candidate, splits) for work in open_.values() for candidate, splits in work]
    left = Counter((candidate.pool_id, candidate.method.name, split) for candidate, splits in todo for split in splits)
    failed = sum(statuses.get(candidate.id) == "failed" for candidate in plan.candidates)
    methods = Counter(candidate.method.name for candidate in plan.candidates)
    return Standing(len(plan.candidates), len(todo), failed, len(open_), methods, left)


def _among(ids: pa.ChunkedArray, others: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of the ids are among others."""
    if not len(others):
        return np.zeros(len(ids), dtype=bool)
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = pc.is_in(ids, others.combine_chunks()).to_numpy()
    return found
