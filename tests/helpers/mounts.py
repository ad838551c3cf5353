"""File systems in memory, of a test's own: a full disc and one that nobody may write to are real ones."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import pytest


@functools.cache
def apart() -> tuple[str, ...]:
    """The words before a command that may mount what nobody else sees.

    Skips where the system lets this user mount nothing, as containers without privileges do: no full disc can be made
    there without filling somebody's real one.
    """
    command = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount"]
    try:
        tried = subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
        why = tried.stderr.strip() if tried.returncode else ""
    except FileNotFoundError:
        why = "there is no `unshare`"
    if why:
        pytest.skip(f"cannot mount the small file system that the test fills: {why}")
    return tuple(command)


def tmpfs(place: Path, options: str) -> str:
    """The shell's words for an empty file system in memory at a place."""
    return f"mount -t tmpfs -o {options} tmpfs '{place}'"
