"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sweep.errors import ToldError


class StoreError(ToldError):
    """A run folder that cannot be used."""


def now() -> datetime:
    """The present, UTC without a zone, as tables hold it."""
    return datetime.now(UTC).replace(tzinfo=None)


@contextmanager
def telling(path: Path) -> Iterator[None]:
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
    with telling(path):
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
    with telling(path):
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
