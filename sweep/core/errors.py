"""Errors that a user can fix."""

from __future__ import annotations

from sweep.core.masking import mask_secrets
from sweep.core.text import printable


class UserError(Exception):
    """What is wrong and where, with a hint how to fix it; the command line shows both without a traceback.

    Both are `printable`, so that terminals, logs and tables can hold them, whatever file names they quote, and without
    secrets.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(mask_secrets(printable(what)))
        self.hint = mask_secrets(printable(hint))


def root_cause(error: Exception) -> str:
    """The last line of the text of an error from another process: the original error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
