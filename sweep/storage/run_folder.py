"""The run folder: tables in immutable parts, weights of members, run.json, and one driver at a time."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweep.core.causes import errno_hint
from sweep.core.file_lock import RUN_INFO_LOCK, file_lock
from sweep.core.ids import content_id
from sweep.core.masking import mask_all, mask_secrets
from sweep.storage.checkpoints import load_tensors, tensors_to_bytes
from sweep.storage.columns import COLUMNS, KEYS
from sweep.storage.files import (
    StoreError,
    create_atomic,
    file_hash,
    file_version,
    storage_errors,
    write_atomic,
)
from sweep.storage.lock import hold
from sweep.storage.parts import (
    READ_ERRORS,
    delete_rows,
    find_defect,
    finish_replacement,
    is_other_table,
    key_in,
    quarantine,
    rows_to_parquet,
)
from sweep.storage.tables import SCHEMA_VERSION, failed_parts, part_files, read

if TYPE_CHECKING:
    from torch import Tensor

Row = dict[str, Any]
_OF_MEMBERS = ("curves", "tasks", "members")
_MEMBER_COLUMNS = ("member_id", "status", "error", "weights_sha256")

_RESTORE = "restore it, or move it away: the next sweep run writes a new one, and the tables stay"


def _describes_run(info: Any) -> bool:
    """Whether the content of run.json has the types that readers rely on."""
    types = {"schema_version": int, "invocations": list, "metrics": list, "evaluation": dict}
    if not isinstance(info, dict) or not all(isinstance(info[key], kind) for key, kind in types.items() if key in info):
        return False
    return all(isinstance(one, dict) for one in info.get("invocations", ()))


def _recorded_looks(file: Path) -> dict[str, Any]:
    """The looks at claims in run.json, under their key; empty without any, and where the file cannot be read."""
    with suppress(OSError, ValueError, RecursionError):
        info = json.loads(file.read_text("utf-8"))
        return {"looks": info["looks"]} if isinstance(info, dict) and info.get("looks") else {}
    return {}


class RunFolder:
    """Paths, tables and weights of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._member_files: list[Any] | None = None
        self._members: list[dict[str, Any]] = []

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.path / "run.json").exists()

    def create(self, info: Mapping[str, Any]) -> None:
        """Create the run folder unless it exists."""
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if not self.exists:
            self.write_run_info(info)

    def run_info(self) -> dict[str, Any]:
        """The content of run.json. Raises StoreError if it is missing, unreadable or of a newer schema."""
        file = self.path / "run.json"
        try:
            info: dict[str, Any] = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise self._missing(file) from None
        except (OSError, ValueError, RecursionError) as error:
            hint = errno_hint(error) if isinstance(error, OSError) else _RESTORE
            raise StoreError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}", hint) from None
        if not _describes_run(info):
            raise StoreError(f"cannot read {file}: it does not describe a run", _RESTORE)
        if info.get("schema_version", 0) > SCHEMA_VERSION:
            newer = f"schema {info['schema_version']}, this one knows {SCHEMA_VERSION}"
            what = f"{self.path} was made by a newer version ({newer})"
            raise StoreError(what, "upgrade merge-sweep, or give the sweep another name")
        return info

    def _missing(self, file: Path) -> StoreError:
        """Why there is no run.json: no folder, a link that leads nowhere, or a folder of something else."""
        if file.is_symlink() or self.path.is_symlink():
            link = file if file.is_symlink() else self.path
            return StoreError(f"{link} leads nowhere: {link.readlink()} is missing", "mount or restore what it names")
        return StoreError(f"no run folder at {self.path}", "sweep run FILE makes one; see sweep ls runs")

    def write_run_info(self, info: Mapping[str, Any]) -> None:
        """Replace run.json, but for the looks at claims that `analysis` recorded in it in the meantime; no secrets."""
        file = self.path / "run.json"
        with storage_errors(file), file_lock(self.path / RUN_INFO_LOCK):
            write_atomic(file, json.dumps(mask_all({**info, **_recorded_looks(file)}), indent=1).encode())

    def append(self, table: str, part: str, rows: Sequence[Row]) -> bool:
        """Write rows as one immutable part; False if the part exists already, and then it stays as it is.

        Errors, which may quote anything, are written without secrets.
        """
        masked = [row | {"error": mask_secrets(row["error"])} if row.get("error") else row for row in rows]
        return create_atomic(self.part_file(table, part), rows_to_parquet(table, masked))

    def part_file(self, table: str, part: str) -> Path:
        """Path of a part."""
        return self.path / "tables" / table / "parts" / f"{part}.parquet"

    def read(self, table: str, columns: Sequence[str] | None = None, **equal: str) -> pa.Table:
        """All rows of a table, or those with the given values. Raises StoreError with the name of a damaged part."""
        try:
            rows = read(self.path, table, columns, **equal)
        except READ_ERRORS as error:
            raise self.read_error(table, error) from None
        if any(name in rows.schema.names and rows[name].null_count for name in KEYS[table]):
            bad = [file for file in part_files(self.path, table) if is_other_table(table, pq.read_schema(file))]
            if bad:
                raise self.read_error(table, "it is of another table")
        return rows

    def read_error(self, table: str, error: object) -> StoreError:
        """An error with the name of the damaged part and the command that repairs the folder."""
        found = ((file, find_defect(table, file)) for file in part_files(self.path, table))
        bad, why = next(((file, why) for file, why in found if why), (self.path, str(error)))
        hint = (
            f"sweep doctor {self.path} --repair moves it aside; the next sweep run makes its rows again, except curves"
        )
        return StoreError(f"cannot read {bad}: {why}", hint)

    def members(self) -> list[dict[str, Any]]:
        """Id, status, error and weights hash of each member and start; read again only if the files have changed."""
        files = [(file, file_version(file)) for file in part_files(self.path, "members")]
        if files != self._member_files:
            self._members = self.read("members", _MEMBER_COLUMNS).to_pylist()
            self._member_files = files
        return self._members

    def member_statuses(self) -> dict[str, str]:
        """Id -> status of each member and start."""
        return {row["member_id"]: row["status"] for row in self.members()}

    def retire_failures(self) -> int:
        """Move parts with failed rows, and rows of members without their weights file, aside: they are computed again.

        Returns the number of parts of members, candidates, and blocks of pairs or inspected models.
        """
        retired = 0
        for table, beside in (("members", ("curves", "tasks")), ("candidates", ("predictions", "tasks"))):
            for file in sorted(failed_parts(self.path, table)):
                retired += 1
                for each in (*beside, table):  # the part that marks it as done goes last
                    quarantine(self.path, each, self.part_file(each, file.stem))
        retired += self.retire_failed_tasks()
        done = [member for member, status in self.member_statuses().items() if status == "ok"]
        return retired + self.drop_members([member for member in done if not self.weights_file(member).exists()])

    def retire_failed_tasks(self) -> int:
        """Move the rows of failed blocks of pairs and inspected models aside; returns their number."""
        failed = failed_parts(self.path, "tasks")
        for file in failed:
            quarantine(self.path, "tasks", file)
        return len(failed)

    def failed_tasks(self) -> dict[str, str]:
        """Task id -> error of each block of pairs or inspected models without rows."""
        rows = self.read("tasks", ["task_id", "status", "error"]).to_pylist()
        return {row["task_id"]: row["error"] or "" for row in rows if row["status"] == "failed"}

    def drop_members(self, members: Sequence[str]) -> int:
        """Remove the rows of members from their tables, so that they are trained again; returns how many had a row."""
        if not members:
            return 0
        gone = pa.array(members, pa.string())
        for table in _OF_MEMBERS:  # the row that marks it as done goes last
            key = "task_id" if table == "tasks" else "member_id"
            count = delete_rows(self.path, table, key_in(key, gone))
        return count

    def weights_file(self, member_id: str) -> Path:
        """Path of a member's weights."""
        return self.path / "members" / f"{member_id}.safetensors"

    def save_weights(self, member_id: str, state: Mapping[str, Tensor]) -> tuple[str, int]:
        """Write a member's weights and return their sha256 and size in bytes.

        A file without a row in `members` was left by a process that died, and is replaced.
        """
        content = tensors_to_bytes(state)
        write_atomic(self.weights_file(member_id), content)
        return hashlib.sha256(content).hexdigest(), len(content)

    def load_weights(self, member_id: str, digest: str | None = None) -> dict[str, Tensor]:
        """A member's weights. Raises StoreError for a file that is missing, damaged, or has another hash."""
        file = self.weights_file(member_id)
        if digest and file.exists() and file_hash(file) != digest:
            hint = f"sweep doctor {self.path} --repair moves it aside, and the next sweep run trains it anew"
            raise StoreError(f"cannot read the weights {file}: they are not what was written", hint)
        return load_tensors(file, "sweep run FILE --retry trains the members whose files are gone")

    def weight_hashes(self) -> dict[str, str]:
        """Id -> sha256 of the weights file, of each member and start with weights."""
        return {row["member_id"]: row["weights_sha256"] for row in self.members() if row["weights_sha256"]}

    def weight_hash(self, member_id: str) -> str | None:
        """The sha256 of one member's weights file; None without weights.

        From its own part while there is one: a trial must not read the rows of ten thousand other members.
        """
        with suppress(*READ_ERRORS):
            own = pq.read_table(self.part_file("members", member_id), columns=["weights_sha256"])
            hashes: list[str | None] = own["weights_sha256"].to_pylist()
            return hashes[0]
        return self.weight_hashes().get(member_id)

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Hold the lock of the folder (see `lock.hold`) and finish what a killed process left incomplete."""
        with hold(self.path, purpose):
            for table in COLUMNS:
                finish_replacement(self.path, table)
            self._drop_orphans()
            yield

    def _drop_orphans(self) -> None:
        """Remove predictions without candidates, which a killed writer left: their block is evaluated again."""
        stems = {file.stem for file in part_files(self.path, "candidates")}
        orphans = [f for f in part_files(self.path, "predictions") if f.parent.name == "parts" and f.stem not in stems]
        if not orphans:
            return
        with suppress(StoreError, *READ_ERRORS):  # the next reader reports the damage
            known = joined_key(self.read("candidates", ["candidate_id", "split"]))
            delete_rows(
                self.path, "predictions", lambda rows: pc.invert(pc.is_in(joined_key(rows), value_set=known)), orphans
            )


def new_folder_id() -> str:
    """A random id for a run folder: sweeps of one name are distinguished by it where they meet."""
    return secrets.token_hex(16)


def folder_id(info: Mapping[str, Any]) -> str:
    """The id of a run folder from its run.json; for a folder of an earlier version, one made of when and where it was.

    It stays the same when the folder is moved, and when its configuration is edited.
    """
    if "folder_id" in info:
        return str(info["folder_id"])
    first: Mapping[str, Any] = next(iter(info.get("invocations", [])), {})
    host = first.get("machine", {}).get("host")
    return content_id("run folder", [info.get("sweep"), info.get("created_at"), first.get("started_at"), host])


def failed_members(folder: RunFolder) -> dict[str, str]:
    """Id -> cause of each member and start without weights."""
    return {row["member_id"]: row["error"] or row["status"] for row in folder.members() if row["status"] != "ok"}


def joined_key(rows: pa.Table) -> pa.Array:
    """Candidate id and split, joined by a space."""
    joined = pc.binary_join_element_wise(rows["candidate_id"], rows["split"], " ")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
