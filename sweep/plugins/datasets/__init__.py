"""Data sets: one file each, a function from settings to a `sweep.data.Dataset`."""

from __future__ import annotations
