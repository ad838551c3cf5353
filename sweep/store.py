"""The run folder: immutable parts that the first writer wins, done ids, weights, and one driver at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.columns import COLUMNS
from sweep.files import StoreError, now, publish, replace, telling
from sweep.table import SCHEMA_VERSION, part_files, read, schema

if TYPE_CHECKING:
    from torch import Tensor

Row = Mapping[str, Any]


class RunFolder:
    """Paths, parts and weights of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "run.json").exists()

    def create(self, info: Mapping[str, Any]) -> None:
        """Begin the run folder where there is none yet."""
        with telling(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if not self.exists:
            self.write_info(info)

    def info(self) -> dict[str, Any]:
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

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Replace run.json."""
        replace(self.path / "run.json", json.dumps(info, indent=1).encode())

    def append(self, table: str, part: str, rows: Sequence[Row]) -> bool:
        """Write rows as one immutable part; False where the part exists already, which stays as it is."""
        with_schema = pa.Table.from_pylist([dict(row) for row in rows], schema=schema(table))
        sink = pa.BufferOutputStream()
        pq.write_table(with_schema, sink, **_encoding(table))
        return publish(self.part(table, part), sink.getvalue().to_pybytes())

    def part(self, table: str, part: str) -> Path:
        """Where a part lies."""
        return self.path / "tables" / table / "parts" / f"{part}.parquet"

    def read(self, table: str, columns: Sequence[str] | None = None, **equal: str) -> pa.Table:
        """All rows of a table, or those whose columns equal what is given."""
        try:
            return read(self.path, table, columns, **equal)
        except (pa.ArrowException, OSError) as error:
            bad = next((f for f in part_files(self.path, table) if not _readable(f)), self.path)
            raise StoreError(
                f"cannot read {bad}: {error}", "move it aside and run again: its rows are made anew"
            ) from None

    def statuses(self, table: str, key: str) -> dict[str, str]:
        """id -> status of every row."""
        rows = self.read(table, [key, "status"])
        return dict(zip(rows[key].to_pylist(), rows["status"].to_pylist(), strict=True))

    def done(self) -> tuple[dict[str, set[str]], dict[str, str]]:
        """candidate_id -> splits that have a row, and candidate_id -> status, failed before any other."""
        rows = self.read("candidates", ["candidate_id", "split", "status"])
        splits: dict[str, set[str]] = {}
        statuses: dict[str, str] = {}
        for identity, split, status in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            splits.setdefault(identity, set()).add(split)
            if statuses.get(identity) != "failed":
                statuses[identity] = status
        return splits, statuses

    def retire(self) -> int:
        """Move parts with failed rows aside, and those of members whose weights are gone, so that they are made anew.

        Returns how many parts of members and candidates.
        """
        retired = 0
        for table, beside in (("members", ("curves", "tasks")), ("candidates", ("predictions", "tasks"))):
            for file in part_files(self.path, table):
                if self._is_spoilt(file, table):
                    retired += 1
                    for each in (*beside, table):  # the part that says that it is done goes last
                        self._put_aside(self.part(each, file.stem), each)
        return retired

    def _is_spoilt(self, file: Path, table: str) -> bool:
        """Whether a part holds a failure, or a member whose weights are gone."""
        columns = ["status", "member_id"] if table == "members" else ["status"]
        rows = pq.read_table(file, columns=columns).to_pylist()
        lost = table == "members" and any(not self.weights_file(row["member_id"]).exists() for row in rows)
        return lost or any(row["status"] == "failed" for row in rows)

    def _put_aside(self, part: Path, table: str) -> None:
        """Move a part out of its table, if it is there."""
        target = self.path / "retired" / f"{table}-{part.stem}-{os.urandom(4).hex()}.parquet"
        with telling(target):
            target.parent.mkdir(exist_ok=True)
            if part.exists():
                part.rename(target)

    def weights_file(self, member_id: str) -> Path:
        """Where a member's weights lie."""
        return self.path / "members" / f"{member_id}.safetensors"

    def save_weights(self, member_id: str, state: Mapping[str, Tensor]) -> tuple[str, int]:
        """Write a member's weights; their hash and size.

        What is there without a row in `members` was left by a process that was lost, and is replaced.
        """
        content = tensors_to_bytes(state)
        replace(self.weights_file(member_id), content)
        return hashlib.sha256(content).hexdigest(), len(content)

    def load_weights(self, member_id: str) -> dict[str, Tensor]:
        """A member's weights; raises StoreError for a file that is missing or damaged."""
        hint = "sweep run FILE --retry trains the members whose files are gone"
        return load_tensors(self.weights_file(member_id), hint)

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """One driver at a time; raises StoreError that says who holds the folder. A dead owner's lock is free."""
        with telling(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / "lock", "a+", encoding="utf-8")  # noqa: SIM115 - it is held open as long as the lock
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "another process"
                raise StoreError(f"{self.path} is in use by {owner}", "wait for it, or stop it first") from None
            file.truncate(0)
            file.write(
                f"{purpose}, process {os.getpid()} on {socket.gethostname()} since {now():%Y-%m-%d %H:%M:%S} UTC"
            )
            file.flush()
            yield


def _encoding(table: str) -> dict[str, Any]:
    """Dictionary for names, byte-stream split for floats: half the size and the time of the default."""
    columns = COLUMNS[table]
    floats = [column.name for column in columns if column.type == pa.float64()]
    unique = {"candidate_id", "member_id", "correct", "classes"}
    names = [c.name for c in columns if c.type == pa.string() and c.name not in unique]
    return {"compression": "zstd", "use_dictionary": names, "use_byte_stream_split": floats}


def _readable(file: Path) -> bool:
    try:
        pq.read_table(file)
    except (pa.ArrowException, OSError):
        return False
    return True


def load_tensors(file: Path, hint: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises StoreError for one that is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot read the weights {file}: {error}", hint) from None


def tensors_to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Tensors as safetensors."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
