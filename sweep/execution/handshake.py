"""What all processes that compute rows of one run must have in common, which each of them checks before its first row.

A folder in the run folder is where they agree: a node that does not share the run folder does not see it, and of each
kind of hardware the first process that computes writes down what it has.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sweep.core.errors import UserError
from sweep.core.file_lock import file_lock
from sweep.execution.node_report import NodeReport, allowed_if_mixed, make_report, never_allowed
from sweep.storage.files import create_atomic

if TYPE_CHECKING:
    from sweep.config.spec import Execution

APPEAR_SECONDS = 35
"""How long a new file may take to appear: NFS may show a listing for 30 s that has changed since."""
INSTALL = "install the same merge-sweep and the packages of its requirements.lock on every node"
_SHARE = "the storage folder must be one folder on every node, at the same path, for this user to write"
_MIX = "take nodes of one kind, or set execution.mixed_nodes=true: the table `tasks` records what computed each row"
_FOLDER = ".nodes"
_DRIVER = "driver"


class Verdict(NamedTuple):
    """Why a process may not compute rows, and what to do; `note` is what it has otherwise and may have."""

    problem: str = ""
    hint: str = ""
    note: str = ""


@dataclass(frozen=True)
class Handshake:
    """What the driver has, the folder where processes agree, and whether hardware and torch may differ."""

    place: Path
    own: NodeReport
    is_mixed: bool

    def judge(self, found: NodeReport) -> Verdict:
        """Whether a process with this report may compute rows: its code, the run folder there, then what may differ."""
        foreign = never_allowed(self.own, found)
        if foreign:
            problems = [f"it has {', '.join(foreign)}", found.storage_problem]
            hint = f"{INSTALL}; {_SHARE}" if found.storage_problem else INSTALL
            return Verdict("; ".join(filter(None, problems)), hint)
        if found.storage_problem:
            return Verdict(found.storage_problem, _SHARE)
        hardware = {name: self._settled(name, value) for name, value in found.hardware.items()}
        others = ", ".join(allowed_if_mixed(self.own, found, hardware))
        if others and not self.is_mixed:
            return Verdict(f"it has {others}: numbers may differ", _MIX)
        return Verdict(note=f"it has {others}" if others else "")

    def report(self, gpus: float, node: str) -> NodeReport:
        """The report of this process, after it has read, written, locked and listed files where processes agree."""
        return make_report(gpus)._replace(storage_problem=self._storage_problem(node))

    def _settled(self, name: str, value: str) -> str:
        """What the first process that computes has of a kind of hardware."""
        file = self.place / name
        create_atomic(file, value.encode())
        return file.read_text("utf-8")

    def _storage_problem(self, node: str) -> str:
        """Why the run folder is of no use on this node; empty if it can be used."""
        folder = self.place.parents[1]
        if not appears(self.place / _DRIVER):
            return f"it does not see {folder}" if not folder.is_dir() else f"it does not see new files in {folder}"
        try:
            create_atomic(self.place / node, b"seen")
            with file_lock(self.place / "lock"):
                list(self.place.iterdir())
        except UserError as error:
            return str(error)
        except OSError as error:
            return f"it cannot write {folder}: {error.strerror or error}"
        return ""


@contextmanager
def open_handshake(folder: Path, execution: Execution) -> Iterator[Handshake]:
    """The handshake of a run, whose folder is removed at the end."""
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)  # of a run that was killed
    place = folder / _FOLDER / os.urandom(8).hex()
    create_atomic(place / _DRIVER, str(os.getpid()).encode())
    try:
        yield Handshake(place, make_report(), execution.mixed_nodes)
    finally:
        shutil.rmtree(folder / _FOLDER, ignore_errors=True)


def appears(file: Path) -> bool:
    """Whether a file is listed in its folder, perhaps after a while."""
    end = time.monotonic() + APPEAR_SECONDS
    while time.monotonic() < end:
        if file.parent.is_dir() and file in file.parent.iterdir():
            return True
        time.sleep(0.2)
    return False
