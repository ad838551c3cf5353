"""One call of a run: its entry in run.json, and the requests to stop it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sweep.core.provenance import now, run_environment
from sweep.storage.lock import stop_requested
from sweep.storage.run_folder import new_folder_id
from sweep.storage.tables import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from sweep.config.spec import Sweep
    from sweep.storage.run_folder import RunFolder

_log = logging.getLogger(__name__)


def is_settled(folder: RunFolder, sweep: Sweep) -> bool:
    """Whether the last call of a run came to its end, with the same sweep."""
    info = folder.run_info()
    last = info.get("invocations", [])[-1:]
    return info.get("sweep_id") == sweep.id and bool(last and last[0].get("finished_at"))


def new_run_info(sweep: Sweep) -> dict[str, Any]:
    """What run.json holds before the first call."""
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": sweep.name,
        "folder_id": new_folder_id(),
        "created_at": _time(),
        "invocations": [],
    }


@contextmanager
def recorded(folder: RunFolder, sweep: Sweep, command: str, overrides: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Note in run.json what was called, by what code, where and when, and whether it came to its end; yields run.json.

    A call that is interrupted or fails has no `finished_at`.
    """
    execution = sweep.execution
    entry = {
        "started_at": _time(),
        "finished_at": None,
        "command": command,
        "overrides": list(overrides),
        "config": sweep.to_yaml(),
        "margin": sweep.settings.margin.accuracy,
        "margins": sweep.settings.margin.model_dump(),
        **run_environment(),
    }
    before = folder.run_info()
    evaluation = {"batch": execution.eval_batch_size, "threads": execution.threads}
    info = before | {
        "sweep_id": sweep.id,
        "metrics": list(sweep.metrics),
        "evaluation": before.get("evaluation", {}) | evaluation,
        "invocations": [*before.get("invocations", []), entry],
    }
    folder.write_run_info(info)
    yield info
    entry["finished_at"] = _time()
    folder.write_run_info(info)


class StopRequest:
    """Whether a run was asked to stop, by Ctrl-C or `sweep stop`. Running work is finished first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_made = False

    def __call__(self) -> bool:
        """Whether the run was asked to stop."""
        if not self.is_made and stop_requested(self.folder):
            self.is_made = True
            _log.info("asked to stop: running blocks are finished first")
        return self.is_made

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Ctrl-C once asks to stop and twice stops at once; SIGTERM ends the process through its `finally` clauses."""

        def on_interrupt(number: int, frame: FrameType | None) -> None:
            if self.is_made:
                raise KeyboardInterrupt
            self.is_made = True
            _log.info("stopping once running blocks are done; press Ctrl-C again to stop now")

        def on_termination(number: int, frame: FrameType | None) -> None:
            sys.exit(number)

        with _handler(signal.SIGINT, on_interrupt), _handler(signal.SIGTERM, on_termination):
            yield


@contextmanager
def _handler(number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle a signal for a while; outside the main thread nothing changes, since no signal arrives there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _time() -> str:
    return now().isoformat(timespec="seconds") + "Z"
