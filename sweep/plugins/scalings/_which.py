"""Selects the members of a subset that are scaled."""

from __future__ import annotations

from typing import Literal

Which = Literal["all", "first", "last", "all_but_first", "all_but_last"]


def scaled(count: int, members: Which) -> range:
    """Positions in the subset of the scaled members."""
    ranges = {
        "all": range(count),
        "first": range(1),
        "last": range(count - 1, count),
        "all_but_first": range(1, count),
        "all_but_last": range(count - 1),
    }
    return ranges[members]
