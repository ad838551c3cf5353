"""Standard output of the commands: it prints every name, and ends silently when nobody reads it any more."""

from __future__ import annotations

import codecs
import io
import os
import select
import sys

_EXIT_CLOSED = 141  # as a program that SIGPIPE ends


def allow_any_name() -> None:
    """Let stdout print every text: names that are no UTF-8 as their bytes, what the encoding lacks as `\\u...`."""
    codecs.register_error("printable", _replace)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="printable")


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


def is_output_closed() -> bool:
    """Whether the program that read stdout or stderr has ended, as `head` does."""
    outputs = select.poll()
    for descriptor in (1, 2):
        outputs.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in outputs.poll(0))


def close_output() -> int:
    """Drop what is still buffered, so that no second error follows; returns the exit code."""
    with open(os.devnull, "w") as nowhere:
        for descriptor in (1, 2):
            os.dup2(nowhere.fileno(), descriptor)
    return _EXIT_CLOSED
