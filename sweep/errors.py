"""Mistakes that a user can mend."""

from __future__ import annotations


class ToldError(Exception):
    """What is wrong, with its place, and a hint; verbs show it without a traceback."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint
