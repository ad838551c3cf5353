"""Whether this machine is ready for a sweep."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sweep.core.memmap import cache_folder
from sweep.core.paths import PathError, expand
from sweep.core.provenance import code_version, machine, versions
from sweep.execution.auth_token import readable_by_others, token_file
from sweep.storage.doctor import Finding


def machine_findings(storage: Path) -> Iterator[Finding]:
    """Versions, processor, accelerators, disk and cluster."""
    import torch  # so that accelerators are seen  # noqa: F401

    yield Finding(True, "merge-sweep", code_version())
    for name, version in versions().items():
        yield Finding(True, name, version)
    here = machine()
    yield Finding(True, "machine", f"{here['cpu']}, {here['cores']} cores, {here['memory_bytes'] / 2**30:.0f} GiB")
    yield Finding(True, "accelerators", ", ".join(here["accelerators"]) or "none: everything runs on the CPU")
    yield from _folders(expand(storage))
    yield Finding(True, "cluster", os.environ.get("RAY_ADDRESS", "none: Ray starts on this machine for each run"))
    token = token_file()
    if token and token.is_file() and (problem := readable_by_others(token)):
        yield Finding(False, "token", f"{problem}: chmod 600 {token}")
    yield Finding(True, "tracking", os.environ.get("MLFLOW_TRACKING_URI", f"a data base in {expand(storage)}"))


def _folders(storage: Path) -> Iterator[Finding]:
    """Whether there is room for runs, and whether the folders that runs and libraries write to can be written."""
    place = _existing(storage)
    free = shutil.disk_usage(place).free
    yield Finding(free > 2**30, "disk", f"{free / 2**30:.1f} GiB free at {place}")
    yield _writable("storage", storage)
    try:
        yield _writable("cache", cache_folder())
    except PathError as error:
        yield Finding(False, "cache", f"{error}; {error.hint}")
    try:
        yield _writable("temporary", Path(tempfile.gettempdir()))
    except OSError as error:
        yield Finding(False, "temporary", f"{error.strerror}: set TMPDIR to a folder that you may write to")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def _writable(subject: str, folder: Path) -> Finding:
    """Whether a folder can be written, or made if it does not exist yet."""
    place = _existing(folder)
    good = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return Finding(good, subject, f"{folder} can{'' if good else 'not'} be written")
