"""Text that both programs print: durations, columns, hints for unknown names, and values that JSON can hold."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST_LIST = 30  # names that a hint lists where none is near
_LONGEST_VALUE = 60  # characters of a value in a message


def format_duration(seconds: float) -> str:
    """Seconds in the units that people use: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def format_count(n: int, noun: str) -> str:
    """A number with its noun: 1 pool, 1,797 images."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def align_columns(rows: Sequence[Sequence[str]], *, numeric: Sequence[bool] = ()) -> list[str]:
    """Rows of cells as lines, every column padded to one width; the first row is the header.

    `numeric` says for each column whether it is aligned right; without it, all are aligned left.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = numeric or [False] * len(columns)
    lines = []
    for row in rows:
        cells = zip(row, widths, right, strict=True)
        lines.append("  ".join(cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in cells))
    return [line.rstrip() for line in lines]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: up to four similar names, else all names of a short list, else an empty text.

    Similar names have a ratio of 0.6 or more in `difflib`.
    """
    names = sorted(known)
    similar = difflib.get_close_matches(word, names, n=4, cutoff=0.6)
    if similar:
        return "did you mean " + " or ".join(f"`{name}`" for name in similar) + "?"
    return "known: " + ", ".join(f"`{name}`" for name in names) if 0 < len(names) <= _LONGEST_LIST else ""


def show(value: Any) -> str:
    """A plain value for a message, as YAML writes it and in at most about 60 characters."""
    if isinstance(value, str):
        text = repr(value)
    else:
        try:
            text = json.dumps(value, ensure_ascii=False, default=str)
        except ValueError:  # Python writes no integer of more than 4,300 digits
            text = "a number of thousands of digits"
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def null_non_finite(value: Any) -> Any:
    """The value with None in place of NaN and infinite numbers, which JSON has not; keys become text."""
    if isinstance(value, dict):
        return {str(key): null_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [null_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def printable(text: str) -> str:
    """A text that UTF-8 can hold: bytes of file names that are no UTF-8 become `\\udc…`, as Python shows them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
