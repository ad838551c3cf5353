"""Whether this machine is ready for a sweep."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from sweep.core.provenance import code_version, machine, versions
from sweep.execution.cluster import token_file
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
    place = next(path for path in (storage.absolute(), *storage.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    yield Finding(free > 2**30, "disk", f"{free / 2**30:.1f} GiB free at {place}")
    yield Finding(os.access(place, os.W_OK), "storage", f"{storage.absolute()} can be written")
    yield Finding(True, "cluster", os.environ.get("RAY_ADDRESS", "none: Ray starts on this machine for each run"))
    token = token_file()
    if token.is_file() and token.stat().st_mode & 0o077:
        yield Finding(False, "token", f"{token} can be read by others: chmod 600 {token}")
    yield Finding(True, "tracking", os.environ.get("MLFLOW_TRACKING_URI", f"a data base in {storage.absolute()}"))
