"""What a process of a cluster has: its code, libraries, instruction sets and GPU, and how another one differs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sweep.core.provenance import HARDWARE, code_version, determinism_settings, hardware_names, versions

_NAMES = HARDWARE | {"gpu": "GPU"}
_RECORDED = ("torch", "torchvision")  # one version of torchvision fits one of torch, which `tasks` records


class NodeReport(NamedTuple):
    """What a process has: code, libraries and hardware, and why the run folder is of no use on its node."""

    code: str
    version: str
    libraries: Mapping[str, str]
    hardware: Mapping[str, str]
    storage_problem: str = ""


@cache
def make_report(gpus: float = 0.0) -> NodeReport:
    """The report of this process, with the kind of its GPU if it was given one."""
    import torch

    settings = determinism_settings()
    hardware = {name: settings.get(name, "none") for name in HARDWARE}
    if gpus and torch.cuda.is_available():
        hardware["gpu"] = hardware_names()
    return NodeReport(_source_hash(), code_version(), versions(), hardware)


def never_allowed(own: NodeReport, other: NodeReport) -> list[str]:
    """Differences in words that no setting allows: the code of this package, and libraries that no row records."""
    code = [f"other code of merge-sweep ({other.version}, here {own.version})"] if other.code != own.code else []
    return [*code, *_differences(_without(own.libraries, _RECORDED), _without(other.libraries, _RECORDED))]


def allowed_if_mixed(own: NodeReport, other: NodeReport, hardware: Mapping[str, str]) -> list[str]:
    """Differences in words that `execution.mixed_nodes` allows, to the libraries of a report and to hardware."""
    libraries = [{name: each.libraries.get(name, "none") for name in _RECORDED} for each in (own, other)]
    return [*_differences(*libraries), *_differences(hardware, other.hardware)]


def _without(names: Mapping[str, str], left_out: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in names.items() if name not in left_out}


def _differences(own: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """What another process has under each name for which this one has something else, in words."""
    pairs = [(name, other.get(name, "none"), own.get(name, "none")) for name in sorted(own.keys() | other.keys())]
    return [f"{_NAMES.get(name, name)} {there} instead of {here}" for name, there, here in pairs if there != here]


@cache
def _source_hash() -> str:
    """A hash of the source of this package, since versions of one name may differ."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
