"""Sweeps over merges of trained models: populations, candidates and rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.config.loader import load
    from sweep.execution.driver import run
    from sweep.plan.planner import make_plan

__version__ = "0.1.0"

__all__ = ["load", "make_plan", "run"]


def __getattr__(name: str) -> Any:
    """The Python API, imported when asked for: `sweep --help` must not wait for torch."""
    import importlib

    homes = {"load": "sweep.config.loader", "make_plan": "sweep.plan.planner", "run": "sweep.execution.driver"}
    if name not in homes:
        raise AttributeError(f"module 'sweep' has no attribute {name!r}")
    return getattr(importlib.import_module(homes[name]), name)
