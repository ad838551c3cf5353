"""Statistics, figures and one report from the rows of a run folder; reads rows, nothing else."""

from __future__ import annotations

# Bound here and not on demand: importing the module of the same name later would put the module in its place.
from analysis.load import load

__all__ = ["load"]
