"""How the calls of a run differ in what computes: versions of the code and its libraries, and hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sweep.core.provenance import HARDWARE

_LIBRARIES = ("python", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow")
"""Libraries that numbers depend on."""


def describe_changes(calls: Sequence[Mapping[str, Any]]) -> str:
    """One line on what the last of two calls has otherwise than the one before; empty if nothing."""
    if len(calls) < 2:
        return ""
    before, now = calls
    found = _differences(_makers(before), _makers(now))
    if not found:
        return ""
    return f"this run continues one of {before.get('started_at', 'an unknown time')} with {', '.join(found)}"


def all_changes(calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each call that had something otherwise than the one before: when it began, and what, in words."""
    found = [(now, _differences(_makers(before), _makers(now))) for before, now in pairwise(calls)]
    return [{"started_at": call.get("started_at"), "changes": changes} for call, changes in found if changes]


def _makers(call: Mapping[str, Any]) -> dict[str, str]:
    """What computed in a call, by the name in messages; what is not known is left out.

    On a cluster it is the hardware of its nodes, else that of the driver.
    """
    versions = call.get("versions", {})
    nodes = call.get("nodes")
    machine = call.get("determinism", {}) if nodes is None else nodes
    own = ", ".join(sorted(set(call.get("machine", {}).get("accelerators", ())))) if nodes is None else ""
    known = {"merge-sweep": call.get("code_version")}
    known |= {name: versions.get(name) for name in _LIBRARIES}
    known |= {text: machine.get(name) for name, text in HARDWARE.items()}
    known["accelerators"] = machine.get("accelerators", own) or "none"
    return {name: str(value) for name, value in known.items() if value}


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is known of both and differs, in words."""
    both = [name for name in now if name in before]
    return [f"{name} {now[name]} instead of {before[name]}" for name in both if now[name] != before[name]]
