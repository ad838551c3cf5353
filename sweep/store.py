"""The run folder: immutable parts that the first writer wins, done ids, weights, and one driver at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweep.errors import ToldError
from sweep.table import COLUMNS, SCHEMA_VERSION, part_files, read, schema

if TYPE_CHECKING:
    from torch import Tensor

Row = Mapping[str, Any]


class StoreError(ToldError):
    """A run folder that cannot be used."""


def now() -> datetime:
    """The present, UTC without a zone, as tables hold it."""
    return datetime.now(UTC).replace(tzinfo=None)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Failures of the file system as StoreError that names the place."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        hint = "free some space and run the same command again: nothing is lost" if error.errno == 28 else ""
        raise StoreError(f"cannot write {path}: {error.strerror or error}", hint) from error


def publish(path: Path, content: bytes) -> bool:
    """Write a file whole or not at all; False where it exists already, which is left as it is.

    Temporary file in the same folder, fsync, link (which never overwrites), unlink, fsync of the folder.
    """
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)
    return True


def replace(path: Path, content: bytes) -> None:
    """Write a file whole in the place of an older one, for what describes the run and is no record."""
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        with _told(self.path):
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

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a table."""
        try:
            return read(self.path, table, columns)
        except (pa.ArrowException, OSError) as error:
            bad = next((f for f in part_files(self.path, table) if not _readable(f)), self.path)
            raise StoreError(
                f"cannot read {bad}: {error}", "move it aside and run again: its rows are made anew"
            ) from None

    def statuses(self, table: str, key: str) -> dict[str, str]:
        """id -> status of every row."""
        rows = self.read(table, [key, "status"])
        return dict(zip(rows[key].to_pylist(), rows["status"].to_pylist(), strict=True))

    def done(self) -> dict[str, set[str]]:
        """candidate_id -> splits that have a row."""
        rows = self.read("candidates", ["candidate_id", "split"])
        done: dict[str, set[str]] = {}
        for identity, split in zip(rows["candidate_id"].to_pylist(), rows["split"].to_pylist(), strict=True):
            done.setdefault(identity, set()).add(split)
        return done

    def retire(self, table: str) -> int:
        """Move parts with failed rows aside, so that what they hold runs again; returns how many parts."""
        retired = 0
        for file in part_files(self.path, table):
            if pc.any(pc.equal(pq.read_table(file, columns=["status"])["status"], "failed")).as_py():
                target = self.path / "retired" / f"{table}-{file.stem}-{os.urandom(4).hex()}.parquet"
                with _told(target):
                    target.parent.mkdir(exist_ok=True)
                    file.rename(target)
                retired += 1
        return retired

    def weights_file(self, member_id: str) -> Path:
        """Where a member's weights lie."""
        return self.path / "members" / f"{member_id}.safetensors"

    def save_weights(self, member_id: str, state: Mapping[str, Tensor]) -> tuple[str, int]:
        """Write a member's weights, the first writer wins; hash and size of what is there then."""
        from safetensors.torch import save

        file = self.weights_file(member_id)
        publish(file, save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}))
        content = file.read_bytes()
        return hashlib.sha256(content).hexdigest(), len(content)

    def load_weights(self, member_id: str) -> dict[str, Tensor]:
        """A member's weights; raises StoreError for a file that is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = self.weights_file(member_id)
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"cannot read the weights {file}: {error}", "sweep doctor RUN tells what is damaged"
            ) from None

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """One driver at a time; raises StoreError that says who holds the folder. A dead owner's lock is free."""
        with _told(self.path):
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
