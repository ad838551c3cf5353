"""`sweep doctor`: finds and repairs damage in a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sweep.core.hash_cache import hash_bytes
from sweep.storage.columns import COLUMNS, KEYS
from sweep.storage.files import StoreError, leftover_files
from sweep.storage.parts import delete_rows, find_defect, quarantine
from sweep.storage.run_folder import RunFolder, joined_key
from sweep.storage.tables import part_files, plan_defect


class Finding(NamedTuple):
    """The result of one check."""

    good: bool
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{'ok ' if self.good else 'BAD'} {self.subject:13} {self.message}"


def folder_findings(folder: RunFolder) -> Iterator[Finding]:
    """Check for unreadable parts, repeated keys, missing or changed weights, and leftovers of killed writers."""
    folder.run_info()
    left = sum(len(leftover_files(folder.path / place)) for place in ("members", "tables"))
    if left:
        yield Finding(True, "leftovers", f"{left} temporary files of killed writers; sweep compact RUN removes them")
    yield from _damaged_plan(folder.path / "plan.parquet")
    for table in COLUMNS:
        files = part_files(folder.path, table)
        for file in files:
            yield from _unreadable(table, file)
        yield from _find_duplicates(folder, table, len(files))
    try:
        rows = folder.read("members", ["member_id", "status", "weights_sha256"]).to_pylist()
    except StoreError:
        return  # reported above
    intact = 0
    for row in rows:
        if row["status"] == "ok":
            problem = weights_defect(folder.weights_file(row["member_id"]), row["weights_sha256"])
            intact += not problem
            if problem:
                yield Finding(False, "weights", problem)
    yield Finding(True, "weights", f"{intact} files are as they were written")


def _damaged_plan(file: Path) -> Iterator[Finding]:
    if file.exists() and (why := plan_defect(file)):
        yield Finding(False, "plan", f"cannot read {file}: {why}; sweep doctor RUN --repair moves it aside")


def _unreadable(table: str, file: Path) -> Iterator[Finding]:
    why = find_defect(table, file)
    if why:
        yield Finding(False, "part", f"cannot read {file}: {why}; sweep doctor RUN --repair moves it aside")


def _find_duplicates(folder: RunFolder, table: str, files: int) -> Iterator[Finding]:
    """Check that the primary key of a table is unique."""
    keys = KEYS[table]
    if not files:
        return
    try:
        rows = folder.read(table, keys)
    except StoreError as error:
        yield Finding(False, table, str(error))
        return
    repeated = rows.num_rows - rows.group_by(keys).aggregate([]).num_rows
    yield Finding(not repeated, table, f"{rows.num_rows:,} rows in {files} parts, {repeated} repeated")


def weights_defect(file: Path, digest: str) -> str:
    """Why a member's weights cannot be used; empty for a file with the hash of the table. Reads the file."""
    if not file.exists():
        return f"{file} is missing; sweep run FILE --retry trains it again"
    return "" if hash_bytes(file) == digest else f"{file} has changed since it was written"


_IN_ORDER = ("predictions", "pairs", "curves", "tasks", "candidates", "members")
"""Tables whose rows mark work as done come last: after a kill in between, the repair can run again."""

_MAX_NAMED = 10  # members in one line


def repair_run(folder: RunFolder) -> list[str]:
    """Move damaged parts and weights, and the rows that belong to them, to `retired`; returns a line per action.

    Nothing is deleted. The next `sweep run` makes the rows again, except curves. Raises StoreError while a sweep runs.
    """
    folder.run_info()
    with folder.lock("sweep doctor --repair"):
        return [*_plan(folder), *_parts(folder), *_weights(folder), *_drop_duplicates(folder)]


def _plan(folder: RunFolder) -> Iterator[str]:
    """Move an unreadable plan aside."""
    file = folder.path / "plan.parquet"
    why = plan_defect(file) if file.exists() else ""
    if why:
        quarantine(folder.path, "plan", file)
        yield f"moved {file} aside: {why}; the next sweep run makes it again"


def _parts(folder: RunFolder) -> Iterator[str]:
    """Move unreadable parts and parts of another table aside, with the parts of the same name in other tables."""
    files = [(table, file) for table in COLUMNS for file in part_files(folder.path, table)]
    bad = [(table, file, why) for table, file in files if (why := find_defect(table, file))]
    for table, file, why in bad:
        yield f"moved {file} aside: {why}"
        if file.parent.name == "parts" and table != "curves":
            for each in _IN_ORDER:
                quarantine(folder.path, each, folder.part_file(each, file.stem))
        quarantine(folder.path, table, file)
    damaged = {table for table, _, _ in bad}
    count = (_without_predictions(folder) if "predictions" in damaged else 0) + (_orphans(folder) if damaged else 0)
    if count:
        yield f"moved {count:,} rows aside: candidates without predictions, or predictions without candidates"
    if "members" in damaged and (count := _memberless(folder)):
        yield f"moved {count:,} rows of curves and tasks aside: their members are trained again"
    if "curves" in damaged:
        yield from _without_curves(folder)


def _without_predictions(folder: RunFolder) -> int:
    """Delete candidates whose predictions were in a damaged file."""
    predicted = joined_key(folder.read("predictions", KEYS["predictions"]))
    rows = folder.read("candidates", [*KEYS["candidates"], "status"])
    bare = _not_in(joined_key(rows.filter(pc.not_equal(rows["status"], "failed"))), predicted)
    return delete_rows(folder.path, "candidates", lambda rows: pc.is_in(joined_key(rows), value_set=bare))


def _orphans(folder: RunFolder) -> int:
    """Delete predictions without candidates."""
    known = joined_key(folder.read("candidates", KEYS["candidates"]))
    return delete_rows(folder.path, "predictions", lambda rows: pc.invert(pc.is_in(joined_key(rows), value_set=known)))


def _memberless(folder: RunFolder) -> int:
    """Delete curves and tasks of members without a row: these members are trained and written again."""
    known = folder.read("members", ["member_id"])["member_id"].combine_chunks()
    curves = delete_rows(folder.path, "curves", lambda rows: pc.invert(pc.is_in(rows["member_id"], value_set=known)))
    return curves + delete_rows(
        folder.path,
        "tasks",
        lambda rows: pc.and_(pc.equal(rows["kind"], "member"), pc.invert(pc.is_in(rows["task_id"], value_set=known))),
    )


def _without_curves(folder: RunFolder) -> Iterator[str]:
    """Report members whose curves were in a damaged file.

    They stay: trained again on another machine, their weights could differ from those that candidates were made of.
    """
    rows = folder.read("members", ["member_id", "kept_epoch"])
    trained = rows.filter(pc.greater(rows["kept_epoch"], 0))["member_id"].combine_chunks()
    bare = _not_in(trained, folder.read("curves", ["member_id"])["member_id"].combine_chunks()).to_pylist()
    if bare:
        more = f" and {len(bare) - _MAX_NAMED:,} more" if len(bare) > _MAX_NAMED else ""
        named = ", ".join(sorted(bare)[:_MAX_NAMED]) + more
        yield (
            f"the curves of {len(bare):,} members are lost, their weights and results stay: {named}; "
            f"to train them again, move their files out of {folder.path}/members and run sweep run FILE --retry"
        )


def _weights(folder: RunFolder) -> Iterator[str]:
    """Delete members whose weights are missing or changed."""
    unusable: list[str] = []
    for row in folder.read("members", ["member_id", "status", "weights_sha256"]).to_pylist():
        file = folder.weights_file(row["member_id"])
        why = weights_defect(file, row["weights_sha256"]) if row["status"] == "ok" else ""
        if why:
            unusable.append(row["member_id"])
            quarantine(folder.path, "weights", file)
            yield f"{why}; the next sweep run trains it again"
    folder.drop_members(unusable)


def _drop_duplicates(folder: RunFolder) -> Iterator[str]:
    """Delete all rows with repeated keys, since it is unknown which of them is right."""
    counts = folder.read("candidates", KEYS["candidates"]).group_by(KEYS["candidates"]).aggregate([([], "count_all")])
    repeated = joined_key(counts.filter(pc.greater(counts["count_all"], 1)))
    if len(repeated):
        for table in ("predictions", "candidates"):
            delete_rows(folder.path, table, lambda rows: pc.is_in(joined_key(rows), value_set=repeated))
        yield f"moved the rows of {len(repeated):,} repeated candidates aside"
    members = folder.read("members", ["member_id"]).group_by("member_id").aggregate([([], "count_all")])
    repeated_members = members.filter(pc.greater(members["count_all"], 1))["member_id"].to_pylist()
    if folder.drop_members(repeated_members):
        yield f"moved the rows of {len(repeated_members):,} repeated members aside"


def _not_in(values: pa.Array, others: pa.Array) -> pa.Array:
    return values.filter(pc.invert(pc.is_in(values, value_set=others)))
