"""Progress of a run on stderr, as a live panel or as a line every 30 seconds, and the handlers of log lines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sweep.core.masking import mask_secrets
from sweep.core.text import format_duration

if TYPE_CHECKING:
    from rich.console import Console

_log = logging.getLogger(__name__)

_QUIET_SECONDS = 30.0
_MIN_CLOCK_JUMP = 60.0  # seconds; smaller jumps are ordinary adjustments of the clock
_CLOCK_HINT = "Ray may stall. If it does, press Ctrl-C twice and run the same command again"


@dataclass
class Stage:
    """One kind of work: how many of how many items are done, and how fast in this run.

    `beside` is another kind of work that the same workers do, such as pairs beside candidates.
    """

    name: str
    total: int
    done: int = 0
    failed: int = 0
    beside: Stage | None = None
    started_at: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Items per second since the stage began."""
        return self.done / max(time.monotonic() - self.started_at, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds left at this rate; None before the first item of each kind is done."""
        if self.total and not self.done:
            return None
        own = (self.total - self.done) / self.rate if self.done else 0.0
        beside = self.beside.left if self.beside else 0.0
        return None if beside is None else max(own, beside)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self.done >= self.total and (self.beside is None or self.beside.is_done)

    def __str__(self) -> str:
        parts = [f"{self.name}: {self.done:,} of {self.total:,}"]
        parts += [f"{self.failed:,} failed"] if self.failed else []
        parts += [f"{self.beside.name}: {self.beside.done:,} of {self.beside.total:,}"] if self.beside else []
        if not self.is_done:
            parts += [f"{self.rate:.3g} per second"] if 0 < self.done < self.total else []
            parts += [f"about {format_duration(self.left)} left"] if self.left is not None else []
        elif self.done:
            parts.append(f"in {format_duration(time.monotonic() - self.started_at)}")
        return ", ".join(parts)


class ClockGuard:
    """Detects that the system clock was set back, which can stall Ray; the sweep itself uses a monotonic clock."""

    def __init__(
        self, system_clock: Callable[[], float] = time.time, monotonic_clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.system_clock = system_clock
        self.monotonic_clock = monotonic_clock
        self.offset = system_clock() - monotonic_clock()

    def set_back(self) -> float:
        """Seconds by which the system clock was set back since the last call; negative if it was set forward."""
        before = self.offset
        self.offset = self.system_clock() - self.monotonic_clock()
        return before - self.offset


class MaskingFormatter(logging.Formatter):
    """Formats log lines without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return mask_secrets(super().format(record))


class TerminalHandler(logging.Handler):
    """Writes log lines to stderr, above the live panel if there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.setFormatter(MaskingFormatter())
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, without its level."""
        line = self.format(record)
        if self.console.is_terminal:
            self.console.print(line, markup=False)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


class LogFileHandler(logging.Handler):
    """Appends log lines with their time in UTC to a file, once its folder exists. On a full disk lines are lost."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        formatter = MaskingFormatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Append one line."""
        if self.file.parent.is_dir():
            with suppress(OSError), self.file.open("a", encoding="utf-8") as file:
                file.write(f"{self.format(record)}\n")


@contextmanager
def log_to(*handlers: logging.Handler) -> Iterator[None]:
    """Send the log lines of this package only to these handlers; on exit the earlier settings are restored."""
    logger = logging.getLogger("sweep")
    level = logger.level
    propagate = logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False  # libraries add handlers to the root logger, which would repeat each line
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)


class Progress:
    """Shows stages while they run. Inside its `with` block, log lines go to the terminal and to the file `log`."""

    def __init__(self, log: Path | None = None) -> None:
        from rich.console import Console

        self.log = log
        self.logging = ExitStack()
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.live: Any = None
        self.task: Any = None
        self.stage: Stage | None = None
        self.last_printed = time.monotonic()
        self.clock_guard = ClockGuard()

    def __enter__(self) -> Progress:
        file = [LogFileHandler(self.log)] if self.log else []
        self.logging.enter_context(log_to(TerminalHandler(self.console), *file))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.logging:
            self.end()

    def begin(self, name: str, total: int, beside: Stage | None = None) -> None:
        """Begin a stage; the previous stage ends."""
        self.end()
        self.stage = Stage(name, total, beside=beside)
        self.last_printed = time.monotonic()
        if self.console.is_terminal:
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

            columns = SpinnerColumn(), BarColumn(bar_width=30), TextColumn("{task.description}", markup=False)
            self.live = Progress(*columns, console=self.console, transient=True)
            self.live.start()
            self.task = self.live.add_task(str(self.stage), total=total)

    def advance(self, done: int = 1, failed: int = 0, beside: int = 0) -> None:
        """Count finished items, and warn if the system clock was set back. Called at least once a second."""
        if (back := self.clock_guard.set_back()) > _MIN_CLOCK_JUMP:
            _log.warning(f"system clock jumped back by {format_duration(back)}; {_CLOCK_HINT}")
        if self.stage is None:
            return
        self.stage.done += done
        self.stage.failed += failed
        if self.stage.beside:
            self.stage.beside.done += beside
        if self.live:
            self.live.update(self.task, completed=self.stage.done, description=str(self.stage))
        elif time.monotonic() - self.last_printed >= _QUIET_SECONDS:
            self.last_printed = time.monotonic()
            _log.info(str(self.stage))

    def end(self) -> None:
        """Remove the live panel and log the last line of the stage."""
        if self.live:
            self.live.stop()
            self.live = None
        if self.stage:
            _log.info(str(self.stage))
            self.stage = None
