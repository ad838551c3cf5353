"""Checks of a cluster's other nodes before anything is computed: each has the same code and shares the run folder."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sweep.core.errors import UserError, root_cause
from sweep.core.file_lock import file_lock
from sweep.core.provenance import code_version, determinism_settings, versions
from sweep.core.text import format_count
from sweep.execution.ray_checks import LaunchError
from sweep.storage.files import create_atomic

_log = logging.getLogger(__name__)
_ANSWER_SECONDS = 180  # a process starts and imports torch, perhaps from a slow disk
_APPEAR_SECONDS = 35  # NFS may show a listing for 30 s that has changed since
_INSTALL = "install the same merge-sweep and the packages of its requirements.lock on every node"
_SHARE = "the storage folder must be one folder on every node, at the same path, for this user to write"
_FOLDER = ".nodes"
_DRIVER = "driver"
_HARDWARE = ("cpu_capability", "cuda", "cudnn")
"""Settings of determinism that belong to a machine; Ray sets the variables among them by worker."""


class NodeReport(NamedTuple):
    """What a node has: its code, libraries and instruction sets, and why the run folder is of no use there."""

    code: str
    version: str
    libraries: Mapping[str, str]
    hardware: Mapping[str, str]
    storage_problem: str = ""


def check_nodes(folder: Path) -> None:
    """Check every other node that takes work. Raises LaunchError with all nodes that cannot, and why.

    Other instruction sets are logged, since they change no more than the last bits of numbers.
    """
    nodes = _other_nodes()
    if not nodes:
        return
    _log.info(f"checking {format_count(len(nodes), 'other node')} of the cluster")
    own = make_report()
    try:
        with ThreadPoolExecutor(len(nodes)) as threads:
            answers = list(threads.map(partial(_ask, folder), nodes, nodes.values()))
    finally:
        shutil.rmtree(folder / _FOLDER, ignore_errors=True)
    reports = [(name, found) for name, found in zip(nodes.values(), answers, strict=True) if found]
    for name, found in reports:
        if other := _differences(own.hardware, found.hardware):
            _log.warning(f"node {name} has {', '.join(other)}: numbers may differ in their last bits")
    foreign = [f"node {name}: {text}" for name, found in reports if (text := difference(own, found))]
    apart = [f"node {name}: {found.storage_problem}" for name, found in reports if found.storage_problem]
    hints = [hint for hint, problems in ((_INSTALL, foreign), (_SHARE, apart)) if problems]
    if hints:
        raise LaunchError("; ".join([*foreign, *apart]), "; ".join(hints))


def difference(own: NodeReport, other: NodeReport) -> str:
    """How the code and libraries of another node differ from those of this one, in words; empty if they do not."""
    code = [f"other code of merge-sweep ({other.version}, here {own.version})"] if other.code != own.code else []
    found = [*code, *_differences(own.libraries, other.libraries)]
    return "it has " + ", ".join(found) if found else ""


def _differences(own: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """What another node has under each name for which this one has something else, in words."""
    pairs = [(name, other.get(name, "none"), own.get(name, "none")) for name in sorted(own.keys() | other.keys())]
    return [f"{name} {there} instead of {here}" for name, there, here in pairs if there != here]


def make_report() -> NodeReport:
    """The report of this process."""
    import torch  # else `determinism_settings` does not know the instruction sets  # noqa: F401

    settings = determinism_settings()
    return NodeReport(
        _source_hash(), code_version(), versions(), {name: settings[name] for name in _HARDWARE if name in settings}
    )


def _source_hash() -> str:
    """A hash of the source of this package, since versions of one name may differ."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _other_nodes() -> dict[str, str]:
    """The nodes that take work, without that of this process: id -> address."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    return {node["NodeID"]: node["NodeManagerAddress"] for node in alive if node["NodeID"] != own}


def _ask(folder: Path, node: str, name: str) -> NodeReport | None:
    """The report of a node, by its id and name; None if it is gone. Raises LaunchError if it cannot run this code."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    place = folder / _FOLDER / node
    task: Any = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(report_with_storage)
    try:
        create_atomic(place / _DRIVER, str(os.getpid()).encode())
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        report = ray.get(task.options(scheduling_strategy=there).remote(place), timeout=_ANSWER_SECONDS)
        found = NodeReport(*report)
        if not found.storage_problem and not _appears(place / node):
            return found._replace(storage_problem=f"what it writes in {folder} does not appear here")
        return found
    except ray.exceptions.GetTimeoutError:
        raise LaunchError(f"node {name} does not answer within {_ANSWER_SECONDS} seconds", "is it busy?") from None
    except ray.exceptions.RayError as error:
        if node not in _other_nodes():
            return None
        raise LaunchError(f"node {name} cannot run this code: {root_cause(error)}", _INSTALL) from None


def report_with_storage(place: Path) -> tuple[Any, ...]:
    """The report of the node that this runs on, after it has read, written, locked and listed files in a folder."""
    return tuple(make_report()._replace(storage_problem=_storage_problem(place)))


def _storage_problem(place: Path) -> str:
    """Why this node cannot use a folder; empty if it can."""
    folder = place.parents[1]
    if not _appears(place / _DRIVER):
        return f"it does not see {folder}" if not folder.is_dir() else f"it does not see new files in {folder}"
    try:
        create_atomic(place / place.name, b"seen")
        with file_lock(place / "lock"):
            list(place.iterdir())
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"it cannot write {folder}: {error.strerror or error}"
    return ""


def _appears(file: Path) -> bool:
    """Whether a file is listed in its folder, perhaps after a while."""
    end = time.monotonic() + _APPEAR_SECONDS
    while time.monotonic() < end:
        if file.parent.is_dir() and file in file.parent.iterdir():
            return True
        time.sleep(0.2)
    return False
