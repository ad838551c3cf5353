"""Errors that a user can fix: where, what is wrong, and a hint."""

from __future__ import annotations

from sweep.core.errors import UserError


class AnalysisError(UserError):
    """A fault of the rows, the run folder or the command: `place: what`, and the hint on a line of its own.

    The text holds the hint too, since a notebook shows nothing else.
    """

    def __init__(self, place: str, what: str, hint: str = "") -> None:
        super().__init__(f"{place}: {what}" + (f"\nhint: {hint}" if hint else ""), hint)
        self.place = place
        self.what = what

    def __reduce__(self) -> tuple[type[AnalysisError], tuple[str, str, str]]:
        """Pickle the parts, so that another process makes the same error."""
        return type(self), (self.place, self.what, self.hint)


class NothingToDrawError(AnalysisError):
    """The run has no rows for a figure or statistic; a report notes it and goes on."""
