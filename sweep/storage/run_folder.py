"""The run folder: tables in immutable parts, weights of members, run.json, and one driver at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

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

Row = Mapping[str, Any]
_OF_MEMBERS = ("curves", "tasks", "members")
_MEMBER_COLUMNS = ("member_id", "status", "error", "weights_sha256")


class RunFolder:
    """Paths, tables and weights of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._member_files: list[Any] | None = None
        self._members: list[dict[str, Any]] = []

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "run.json").exists()

    def create(self, info: Mapping[str, Any]) -> None:
        """Begin the run folder where there is none yet."""
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if not self.exists:
            self.write_run_info(info)

    def run_info(self) -> dict[str, Any]:
        """run.json; raises StoreError where it is missing, unreadable or of a newer schema."""
        file = self.path / "run.json"
        try:
            info: dict[str, Any] = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise StoreError(f"no run folder at {self.path}", "sweep run FILE makes one; see sweep ls runs") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {file}: {error}") from None
        if not isinstance(info, dict) or not isinstance(info.get("schema_version", 0), int):
            raise StoreError(f"cannot read {file}: it does not describe a run")
        if info.get("schema_version", 0) > SCHEMA_VERSION:
            newer = f"schema {info['schema_version']}, this one knows {SCHEMA_VERSION}"
            what = f"{self.path} was made by a newer version ({newer})"
            raise StoreError(what, "upgrade merge-sweep, or give the sweep another name")
        return info

    def write_run_info(self, info: Mapping[str, Any]) -> None:
        """Replace run.json."""
        write_atomic(self.path / "run.json", json.dumps(info, indent=1).encode())

    def append(self, table: str, part: str, rows: Sequence[Row]) -> bool:
        """Write rows as one immutable part; False where the part exists already, which stays as it is."""
        return create_atomic(self.part_file(table, part), rows_to_parquet(table, rows))

    def part_file(self, table: str, part: str) -> Path:
        """Where a part lies."""
        return self.path / "tables" / table / "parts" / f"{part}.parquet"

    def read(self, table: str, columns: Sequence[str] | None = None, **equal: str) -> pa.Table:
        """All rows of a table, or those whose columns equal what is given. Raises StoreError that names a bad part."""
        try:
            rows = read(self.path, table, columns, **equal)
        except READ_ERRORS as error:
            raise self._bad(table, error) from None
        if any(name in rows.schema.names and rows[name].null_count for name in KEYS[table]):
            bad = [file for file in part_files(self.path, table) if is_other_table(table, pq.read_schema(file))]
            if bad:
                raise self._bad(table, "it is of another table")
        return rows

    def _bad(self, table: str, error: object) -> StoreError:
        """Which part cannot be read, and how it is mended."""
        found = ((file, find_defect(table, file)) for file in part_files(self.path, table))
        bad, why = next(((file, why) for file, why in found if why), (self.path, str(error)))
        hint = (
            f"sweep doctor {self.path} --repair moves it aside; but for curves, the next sweep run makes its rows anew"
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
        """Move parts with failed rows aside, and those of members whose weights are gone, so that they are made anew.

        Returns how many parts of members and candidates.
        """
        retired = 0
        for table, beside in (("members", ("curves", "tasks")), ("candidates", ("predictions", "tasks"))):
            for file in sorted(failed_parts(self.path, table)):
                retired += 1
                for each in (*beside, table):  # the part that says that it is done goes last
                    quarantine(self.path, each, self.part_file(each, file.stem))
        done = [member for member, status in self.member_statuses().items() if status == "ok"]
        return retired + self.drop_members([member for member in done if not self.weights_file(member).exists()])

    def drop_members(self, members: Sequence[str]) -> int:
        """Take the rows of members out of their tables, so that they are trained anew; how many members had one."""
        if not members:
            return 0
        gone = pa.array(members, pa.string())
        for table in _OF_MEMBERS:  # the row that says that it is done goes last
            key = "task_id" if table == "tasks" else "member_id"
            count = delete_rows(self.path, table, key_in(key, gone))
        return count

    def weights_file(self, member_id: str) -> Path:
        """Where a member's weights lie."""
        return self.path / "members" / f"{member_id}.safetensors"

    def save_weights(self, member_id: str, state: Mapping[str, Tensor]) -> tuple[str, int]:
        """Write a member's weights; their hash and size.

        What is there without a row in `members` was left by a process that was lost, and is replaced.
        """
        content = tensors_to_bytes(state)
        write_atomic(self.weights_file(member_id), content)
        return hashlib.sha256(content).hexdigest(), len(content)

    def load_weights(self, member_id: str, digest: str | None = None) -> dict[str, Tensor]:
        """A member's weights; raises StoreError for a file that is missing, damaged, or not of that hash."""
        file = self.weights_file(member_id)
        if digest and file.exists() and file_hash(file) != digest:
            hint = f"sweep doctor {self.path} --repair moves it aside, and the next sweep run trains it anew"
            raise StoreError(f"cannot read the weights {file}: they are not what was written", hint)
        return load_tensors(file, "sweep run FILE --retry trains the members whose files are gone")

    def weight_hashes(self) -> dict[str, str]:
        """Id -> sha256 of the weights file, of each member and start with weights."""
        return {row["member_id"]: row["weights_sha256"] for row in self.members() if row["weights_sha256"]}

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """One driver at a time, as `lock.held` says; what a killed one left half done is brought to its end."""
        with hold(self.path, purpose):
            for table in COLUMNS:
                finish_replacement(self.path, table)
            self._drop_orphans()
            yield

    def _drop_orphans(self) -> None:
        """Take out predictions whose candidates were not written: their block may be done in other pieces by now."""
        stems = {file.stem for file in part_files(self.path, "candidates")}
        alone = [f for f in part_files(self.path, "predictions") if f.parent.name == "parts" and f.stem not in stems]
        if not alone:
            return
        with suppress(StoreError, *READ_ERRORS):  # damage is told by whoever reads it
            known = joined_key(self.read("candidates", ["candidate_id", "split"]))
            delete_rows(
                self.path, "predictions", lambda rows: pc.invert(pc.is_in(joined_key(rows), value_set=known)), alone
            )


def failed_members(folder: RunFolder) -> dict[str, str]:
    """Id -> cause of each member and start without weights."""
    return {row["member_id"]: row["error"] or row["status"] for row in folder.members() if row["status"] != "ok"}


def joined_key(rows: pa.Table) -> pa.Array:
    """Candidate and split as one text."""
    joined = pc.binary_join_element_wise(rows["candidate_id"], rows["split"], " ")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
