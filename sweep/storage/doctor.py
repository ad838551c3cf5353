"""Is this machine ready, and is a run folder whole?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sweep.storage.columns import COLUMNS, KEYS
from sweep.storage.files import StoreError, file_hash, leftover_files
from sweep.storage.parts import delete_rows, find_defect, quarantine
from sweep.storage.run_folder import RunFolder, joined_key
from sweep.storage.tables import part_files


class Finding(NamedTuple):
    """One thing that was looked at."""

    good: bool
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{'ok ' if self.good else 'BAD'} {self.subject:13} {self.message}"


def folder_findings(folder: RunFolder) -> Iterator[Finding]:
    """Parts that cannot be read, repeated keys, weights that are missing or changed, and what killed writers left."""
    folder.run_info()
    left = sum(len(leftover_files(folder.path / place)) for place in ("members", "tables"))
    if left:
        yield Finding(True, "leftovers", f"{left} temporary files of killed writers; sweep compact RUN removes them")
    for table in COLUMNS:
        files = part_files(folder.path, table)
        for file in files:
            yield from _unreadable(table, file)
        yield from _find_duplicates(folder, table, len(files))
    try:
        rows = folder.read("members", ["member_id", "status", "weights_sha256"]).to_pylist()
    except StoreError:
        return  # told above
    whole = 0
    for row in rows:
        if row["status"] == "ok":
            problem = weights_defect(folder.weights_file(row["member_id"]), row["weights_sha256"])
            whole += not problem
            if problem:
                yield Finding(False, "weights", problem)
    yield Finding(True, "weights", f"{whole} files are as they were written")


def _unreadable(table: str, file: Path) -> Iterator[Finding]:
    why = find_defect(table, file)
    if why:
        yield Finding(False, "part", f"cannot read {file}: {why}; sweep doctor RUN --repair moves it aside")


def _find_duplicates(folder: RunFolder, table: str, files: int) -> Iterator[Finding]:
    """Whether a table's key is unique."""
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
    """What is wrong with a member's weights: empty for a file that is as it was written."""
    if not file.exists():
        return f"{file} is missing; sweep run FILE --retry trains it anew"
    return "" if file_hash(file) == digest else f"{file} is not what was written"


_IN_ORDER = ("predictions", "pairs", "curves", "tasks", "candidates", "members")
"""The tables whose rows say that something is done come last: a kill on the way leaves it to be repaired again."""

_NAMED = 10  # members in one line


def repair_run(folder: RunFolder) -> list[str]:
    """Move damaged parts and weights into `retired`, with all that was written beside them; what was done, in lines.

    Nothing is deleted. Curves alone are not made anew, which is told. Raises StoreError while a sweep runs.
    """
    folder.run_info()
    with folder.lock("sweep doctor --repair"):
        return [*_parts(folder), *_weights(folder), *_drop_duplicates(folder)]


def _parts(folder: RunFolder) -> Iterator[str]:
    """Parts that cannot be read or are of another table, and the parts of the same name in other tables."""
    files = [(table, file) for table in COLUMNS for file in part_files(folder.path, table)]
    bad = [(table, file, why) for table, file in files if (why := find_defect(table, file))]
    for table, file, why in bad:
        yield f"moved {file} aside: {why}"
        if file.parent.name == "parts" and table != "curves":
            for each in _IN_ORDER:
                quarantine(folder.path, each, folder.part_file(each, file.stem))
        quarantine(folder.path, table, file)
    hurt = {table for table, _, _ in bad}
    count = (_without_predictions(folder) if "predictions" in hurt else 0) + (_orphans(folder) if hurt else 0)
    if count:
        yield f"moved {count:,} rows of candidates and predictions aside that had lost one another"
    if "members" in hurt and (count := _memberless(folder)):
        yield f"moved {count:,} rows of curves and tasks aside whose members are to be trained anew"
    if "curves" in hurt:
        yield from _without_curves(folder)


def _without_predictions(folder: RunFolder) -> int:
    """Take out candidates that lost their predictions with a file."""
    said = joined_key(folder.read("predictions", KEYS["predictions"]))
    rows = folder.read("candidates", [*KEYS["candidates"], "status"])
    lost = _not_in(joined_key(rows.filter(pc.not_equal(rows["status"], "failed"))), said)
    return delete_rows(folder.path, "candidates", lambda rows: pc.is_in(joined_key(rows), value_set=lost))


def _orphans(folder: RunFolder) -> int:
    """Take out predictions that lost their candidates."""
    known = joined_key(folder.read("candidates", KEYS["candidates"]))
    return delete_rows(folder.path, "predictions", lambda rows: pc.invert(pc.is_in(joined_key(rows), value_set=known)))


def _memberless(folder: RunFolder) -> int:
    """Take out what was written beside the rows of members that are lost: else it would be there twice."""
    known = folder.read("members", ["member_id"])["member_id"].combine_chunks()
    curves = delete_rows(folder.path, "curves", lambda rows: pc.invert(pc.is_in(rows["member_id"], value_set=known)))
    return curves + delete_rows(
        folder.path,
        "tasks",
        lambda rows: pc.and_(pc.equal(rows["kind"], "member"), pc.invert(pc.is_in(rows["task_id"], value_set=known))),
    )


def _without_curves(folder: RunFolder) -> Iterator[str]:
    """Tell of members that lost their curve with a file.

    They stay: trained anew on another machine, they might not be those any more that the candidates were made of.
    """
    rows = folder.read("members", ["member_id", "kept_epoch"])
    trained = rows.filter(pc.greater(rows["kept_epoch"], 0))["member_id"].combine_chunks()
    lost = _not_in(trained, folder.read("curves", ["member_id"])["member_id"].combine_chunks()).to_pylist()
    if lost:
        named = ", ".join(sorted(lost)[:_NAMED]) + (f" and {len(lost) - _NAMED:,} more" if len(lost) > _NAMED else "")
        yield (
            f"the curves of {len(lost):,} members are lost, their weights and all that was measured stay: {named}; "
            f"to have them trained anew, move their files out of {folder.path}/members and call sweep run FILE --retry"
        )


def _weights(folder: RunFolder) -> Iterator[str]:
    """Members whose weights are missing or changed."""
    lost: list[str] = []
    for row in folder.read("members", ["member_id", "status", "weights_sha256"]).to_pylist():
        file = folder.weights_file(row["member_id"])
        why = weights_defect(file, row["weights_sha256"]) if row["status"] == "ok" else ""
        if why:
            lost.append(row["member_id"])
            quarantine(folder.path, "weights", file)
            yield f"{why}; it is to be trained anew"
    folder.drop_members(lost)


def _drop_duplicates(folder: RunFolder) -> Iterator[str]:
    """Rows with one key, none of which can be told to be the right one."""
    counts = folder.read("candidates", KEYS["candidates"]).group_by(KEYS["candidates"]).aggregate([([], "count_all")])
    twice = joined_key(counts.filter(pc.greater(counts["count_all"], 1)))
    if len(twice):
        for table in ("predictions", "candidates"):
            delete_rows(folder.path, table, lambda rows: pc.is_in(joined_key(rows), value_set=twice))
        yield f"moved the rows of {len(twice):,} repeated candidates aside"
    members = folder.read("members", ["member_id"]).group_by("member_id").aggregate([([], "count_all")])
    again = members.filter(pc.greater(members["count_all"], 1))["member_id"].to_pylist()
    if folder.drop_members(again):
        yield f"moved the rows of {len(again):,} repeated members aside"


def _not_in(values: pa.Array, others: pa.Array) -> pa.Array:
    return values.filter(pc.invert(pc.is_in(values, value_set=others)))
