"""Mistakes that a user can mend: what, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class AnalysisError(ValueError):
    """Something in the rows, the folder or the command that a user can mend."""

    def __init__(self, place: str, what: str, hint: str = "") -> None:
        """The text is `place: what`, with the hint on a line of its own."""
        self.place, self.what, self.hint = place, what, hint
        super().__init__(f"{place}: {what}" + (f"\nhint: {hint}" if hint else ""))

    def __reduce__(self) -> tuple[type[AnalysisError], tuple[str, str, str]]:
        """An error made of the same parts, where it is sent from process to process."""
        return type(self), (self.place, self.what, self.hint)


class NothingToDrawError(AnalysisError):
    """A figure or statistic whose rows this run does not have; a report tells it and goes on."""


def suggestion(word: str, known: Sequence[str]) -> str:
    """A hint for a name that is not known: the nearest ones, else all."""
    near = difflib.get_close_matches(word, known, n=2, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(f"`{name}`" for name in near) + "?"
    return "known: " + ", ".join(f"`{name}`" for name in known)
