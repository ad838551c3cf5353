"""The log lines of this package, for tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sweep.execution.progress import log_to


class ListHandler(logging.Handler):
    """Keeps each line in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def logged() -> Iterator[list[str]]:
    """The lines that this package logs within the block."""
    handler = ListHandler()
    with log_to(handler):
        yield handler.lines
