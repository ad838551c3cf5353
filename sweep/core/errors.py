"""Mistakes that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """What is wrong, with its place, and a hint; verbs show it without a traceback."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


def root_cause(error: Exception) -> str:
    """What an error from another process ends with, which is its cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
