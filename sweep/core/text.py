"""Small pieces of text that both programs print."""

from __future__ import annotations

import difflib


def format_duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def align_columns(cells: list[list[str]]) -> list[str]:
    """Rows of cells as lines with columns of one width; the first row is the header."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint for a name that is not known: the nearest ones, else all of a short list."""
    near = difflib.get_close_matches(word, known, n=4, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(f"`{name}`" for name in near) + "?"
    return "known: " + ", ".join(f"`{name}`" for name in sorted(known)) if 0 < len(known) <= 30 else ""
