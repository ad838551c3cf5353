"""Data sets: one file each, a function from settings to a `Dataset` (`sweep/core/dataset.py`)."""

from __future__ import annotations
