"""What made a row: version, commit, libraries, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any


def now() -> datetime:
    """The present, UTC without a zone, as tables hold it."""
    return datetime.now(UTC).replace(tzinfo=None)


_LIBRARIES = (
    *("torch", "torchvision", "timm", "ray", "mlflow", "pyarrow", "numpy", "scipy", "scikit-learn", "pillow"),
    "safetensors",
)
HARDWARE = {"cpu_capability": "instruction set", "cuda": "CUDA", "cudnn": "cuDNN"}
"""Settings of determinism that belong to a machine and its build of torch -> their names in messages."""
_STAMP = Path(__file__).with_name("commit.txt")  # .gitattributes: export-subst
_VARIABLES = ("OMP_", "MKL_", "ONEDNN_", "DNNL_", "ATEN_", "TORCH_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_")


@cache
def commit() -> tuple[str | None, bool | None]:
    """The git commit of this code and whether files differ from it; None where that is not known."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return _archived_commit(), None
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _archived_commit() -> str | None:
    """The commit that `git archive` wrote into a file; None for code that did not come from there."""
    try:
        text = _STAMP.read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return text if re.fullmatch("[0-9a-f]{40,64}", text) else None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


@cache
def code_version() -> str:
    """Version of the package, with the commit where it is known."""
    head, dirty = commit()
    return importlib.metadata.version("merge-sweep") + (f"+{head[:10]}" if head else "") + (".dirty" if dirty else "")


def run_environment() -> dict[str, Any]:
    """What a call was made by, and where."""
    head, dirty = commit()
    return {
        "code_version": code_version(),
        "commit": head,
        "dirty": dirty,
        "versions": versions(),
        "machine": machine(),
        "determinism": determinism_settings(),
    }


def versions() -> dict[str, str]:
    """Python and the libraries that numbers depend on."""
    installed = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def determinism_settings() -> dict[str, str]:
    """Environment variables and CPU/CUDA properties that can change results in the last bits."""
    settings = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)}
    torch = sys.modules.get("torch")
    if torch is None:
        return settings
    settings["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    if torch.version.cuda:
        settings |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return settings


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Host, processor, cores, memory and accelerators of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "cpu": _processor(),
        "cores": usable_cores(),
        "memory_bytes": memory,
        "accelerators": _accelerators(),
    }


def _processor() -> str:
    """The model name of the processor, or its architecture if the system does not name it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _accelerators() -> list[str]:
    """Names of the accelerators; empty unless torch is already loaded, since loading it takes seconds."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def hardware_names() -> str:
    """The kinds of the GPUs that this process has, joined by commas."""
    return ", ".join(sorted(set(_accelerators())))


def worker_columns(device: str) -> dict[str, Any]:
    """The columns of `tasks` for the host, process, libraries and device (`cpu` or `cuda`) that did a task."""
    import resource

    import torch

    is_cpu = device == "cpu"
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": f"cpu {torch.backends.cpu.get_cpu_capability()}" if is_cpu else torch.cuda.get_device_name(),
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "created_at": now(),
        "code_version": code_version(),
    }
