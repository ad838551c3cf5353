"""Statistics, figures and one report from the rows of a run folder; reads rows, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["load"]

if TYPE_CHECKING:
    from analysis.load import load


def __getattr__(name: str) -> Any:
    """The Python API, imported when asked for: `analysis --help` must not wait for pandas."""
    if name != "load":
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    import importlib

    return importlib.import_module("analysis.load").load
