"""Is this machine ready, and is a run folder whole?"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.columns import COLUMNS
from sweep.files import StoreError
from sweep.provenance import code_version, machine, versions
from sweep.store import RunFolder
from sweep.table import part_files

_KEYS = {
    "members": ["member_id"],
    "curves": ["member_id", "epoch"],
    "candidates": ["candidate_id", "split"],
    "pairs": ["member_a", "member_b"],
    "predictions": ["candidate_id", "split"],
    "tasks": ["task_id"],
}


class Finding(NamedTuple):
    """One thing that was looked at."""

    good: bool
    subject: str
    told: str

    def __str__(self) -> str:
        return f"{'ok ' if self.good else 'BAD'} {self.subject:13} {self.told}"


def machine_findings(storage: Path) -> Iterator[Finding]:
    """Versions, processor, accelerators, disk and cluster."""
    import torch  # so that accelerators are seen  # noqa: F401

    yield Finding(True, "merge-sweep", code_version())
    for name, version in versions().items():
        yield Finding(True, name, version)
    here = machine()
    yield Finding(True, "machine", f"{here['cpu']}, {here['cores']} cores, {here['memory_bytes'] / 2**30:.0f} GiB")
    yield Finding(True, "accelerators", ", ".join(here["accelerators"]) or "none: everything runs on the CPU")
    place = next(path for path in (storage.absolute(), *storage.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    yield Finding(free > 2**30, "disk", f"{free / 2**30:.1f} GiB free at {place}")
    yield Finding(os.access(place, os.W_OK), "storage", f"{storage.absolute()} can be written")
    yield Finding(True, "cluster", os.environ.get("RAY_ADDRESS", "none: Ray starts on this machine for each run"))
    yield Finding(True, "tracking", os.environ.get("MLFLOW_TRACKING_URI", f"a data base in {storage.absolute()}"))


def folder_findings(folder: RunFolder) -> Iterator[Finding]:
    """Unreadable parts, repeated keys, and weights that are missing or changed."""
    folder.info()
    for table in COLUMNS:
        files = part_files(folder.path, table)
        for file in files:
            yield from _unreadable(file)
        yield from _repeated(folder, table, len(files))
    try:
        rows = folder.read("members", ["member_id", "status", "weights_sha256"]).to_pylist()
    except StoreError:
        return  # told above
    whole = 0
    for row in rows:
        if row["status"] == "ok":
            problem = _damage(folder.weights_file(row["member_id"]), row["weights_sha256"])
            whole += not problem
            if problem:
                yield Finding(False, "weights", problem)
    yield Finding(True, "weights", f"{whole} files are as they were written")


def _unreadable(file: Path) -> Iterator[Finding]:
    try:
        pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        yield Finding(False, "part", f"cannot read {file}: {error}; move it aside and run again")


def _repeated(folder: RunFolder, table: str, files: int) -> Iterator[Finding]:
    """Whether a table's key is unique."""
    keys = _KEYS.get(table)
    if not keys or not files:
        return
    try:
        rows = folder.read(table, keys)
    except StoreError as error:
        yield Finding(False, table, str(error))
        return
    repeated = rows.num_rows - rows.group_by(keys).aggregate([]).num_rows
    yield Finding(not repeated, table, f"{rows.num_rows:,} rows in {files} parts, {repeated} repeated")


def _damage(file: Path, digest: str) -> str:
    if not file.exists():
        return f"{file} is missing; sweep run FILE --retry trains it anew"
    return "" if hashlib.sha256(file.read_bytes()).hexdigest() == digest else f"{file} is not what was written"
