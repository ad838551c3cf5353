"""Libraries in C that are preloaded, to stand before functions of the system."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def compiled(source: Path, folder: Path) -> Path:
    """A library for LD_PRELOAD from a file in C. Skips where the system knows no LD_PRELOAD or has no compiler."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip(f"{source.name} is preloaded before the system's functions: this needs Linux and the compiler `cc`")
    made = folder / source.with_suffix(".so").name
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(source)], check=True)
    return made
