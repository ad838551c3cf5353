"""Is this machine ready, and is a run folder whole?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sweep.checkpoints import file_hash
from sweep.columns import COLUMNS
from sweep.files import StoreError, temporaries
from sweep.keys import KEYS
from sweep.parts import defect
from sweep.provenance import code_version, machine, versions
from sweep.secret import token_file
from sweep.store import RunFolder
from sweep.table import part_files


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
    token = token_file()
    if token.is_file() and token.stat().st_mode & 0o077:
        yield Finding(False, "token", f"{token} can be read by others: chmod 600 {token}")
    yield Finding(True, "tracking", os.environ.get("MLFLOW_TRACKING_URI", f"a data base in {storage.absolute()}"))


def folder_findings(folder: RunFolder) -> Iterator[Finding]:
    """Parts that cannot be read, repeated keys, weights that are missing or changed, and what killed writers left."""
    folder.info()
    left = sum(len(temporaries(folder.path / place)) for place in ("members", "tables"))
    if left:
        yield Finding(True, "leftovers", f"{left} temporary files of killed writers; sweep compact RUN removes them")
    for table in COLUMNS:
        files = part_files(folder.path, table)
        for file in files:
            yield from _unreadable(table, file)
        yield from _repeated(folder, table, len(files))
    try:
        rows = folder.read("members", ["member_id", "status", "weights_sha256"]).to_pylist()
    except StoreError:
        return  # told above
    whole = 0
    for row in rows:
        if row["status"] == "ok":
            problem = damage(folder.weights_file(row["member_id"]), row["weights_sha256"])
            whole += not problem
            if problem:
                yield Finding(False, "weights", problem)
    yield Finding(True, "weights", f"{whole} files are as they were written")


def _unreadable(table: str, file: Path) -> Iterator[Finding]:
    why = defect(table, file)
    if why:
        yield Finding(False, "part", f"cannot read {file}: {why}; sweep doctor RUN --repair moves it aside")


def _repeated(folder: RunFolder, table: str, files: int) -> Iterator[Finding]:
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


def damage(file: Path, digest: str) -> str:
    """What is wrong with a member's weights: empty for a file that is as it was written."""
    if not file.exists():
        return f"{file} is missing; sweep run FILE --retry trains it anew"
    return "" if file_hash(file) == digest else f"{file} is not what was written"
