"""One call of a run: its entry in run.json, and the requests to stop it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sweep.core.masking import mask_secrets
from sweep.core.provenance import now, run_environment
from sweep.core.termination import EXIT_INTERRUPTED, EXIT_TERMINATED, StoppedError, handled
from sweep.storage.files import StoreError
from sweep.storage.lock import stop_requested
from sweep.storage.run_folder import new_folder_id
from sweep.storage.tables import SCHEMA_VERSION

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from sweep.config.spec import Sweep
    from sweep.storage.run_folder import RunFolder

_log = logging.getLogger(__name__)

STOP_COMMAND = "`sweep stop`"
FINISH_SECONDS = 10.0
"""How long running blocks may take after SIGTERM: Kubernetes kills after 30 s, a spot instance after 30 s to 2 min."""
LAST_SECONDS = 30.0
"""After so long a run ends whatever it waits for: Ray's calls wait a minute for processes that got SIGTERM, too."""
_SAME_SIGNAL_SECONDS = 1.0
"""`timeout` signals the process and then its group, which the process is in: twice within milliseconds."""


def is_settled(folder: RunFolder, sweep: Sweep) -> bool:
    """Whether the last call of a run came to its end, with the same sweep and the same declarations for claims."""
    info = folder.run_info()
    last: dict[str, Any] = next(reversed(info.get("invocations", [])), {})
    is_declared = all(last.get(name, value) == value for name, value in sweep.declared.items())
    return info.get("sweep_id") == sweep.id and is_declared and bool(last.get("finished_at"))


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

    A call that is stopped or fails has no `finished_at`, but `stopped_at` and the `reason`; one that is killed has
    none of them.
    """
    execution = sweep.execution
    entry = {
        "started_at": _time(),
        "finished_at": None,
        "command": mask_secrets(command),
        "overrides": list(map(mask_secrets, overrides)),
        "config": sweep.to_yaml(),
        **sweep.declared,
        "pools": {one.name: one.pools for one in sweep.populations if not one.reference},
        **run_environment(),
    }
    before = folder.run_info()
    evaluation = {"batch": execution.eval_batch_size, "threads": execution.threads}
    info = before | {
        "sweep_id": sweep.id,
        "metrics": sweep.metric_ids,
        "evaluation": before.get("evaluation", {}) | evaluation,
        "invocations": [*before.get("invocations", []), entry],
    }
    folder.write_run_info(info)
    try:
        yield info
    except BaseException as error:
        entry["stopped_at"] = _time()
        entry["reason"] = error.reason if isinstance(error, StoppedError) else f"{type(error).__name__}: {error}"
        with suppress(StoreError):  # it is the cause of the stop, or is met again
            folder.write_run_info(info)
        raise
    entry["finished_at"] = _time()
    folder.write_run_info(info)


class StopRequest:
    """Whether a run was asked to stop, by Ctrl-C, `sweep stop` or SIGTERM.

    The request is raised as StoppedError where it arrives, but within `finishing`: there it is noted, trainings are
    saved, running blocks are finished, and it is raised afterwards. `code` is the exit code after SIGTERM.
    """

    def __init__(self, folder: Path, code: int = EXIT_TERMINATED) -> None:
        self.folder = folder
        self.code = code
        self.reason = ""
        self._terminated_at: float | None = None
        self._is_finishing = False
        self._is_announced = False

    def __call__(self) -> bool:
        """Whether the run was asked to stop; logs the first time that it was."""
        if not self.reason and stop_requested(self.folder):
            self.reason = STOP_COMMAND
        if self.reason and not self._is_announced:
            self._announce()
        return bool(self.reason)

    def is_overdue(self) -> bool:
        """Whether running blocks have used up their time after SIGTERM, which SIGKILL usually follows."""
        return self._terminated_at is not None and time.monotonic() - self._terminated_at > FINISH_SECONDS

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle Ctrl-C and SIGTERM: the first is a request, the second ends the process at once."""
        with handled(signal.SIGINT, self._on_interrupt), handled(signal.SIGTERM, self._on_termination):
            try:
                yield
            except StoppedError:
                if not self._is_announced:
                    _log.info(str(self._error()))
                raise

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Note a request and raise it at the end; an error after the request is logged, since it may be its result."""
        self._is_finishing = True
        try:
            yield
        except Exception as error:
            if not self():
                raise
            _log.warning(f"while the run was stopped: {type(error).__name__}: {error}")
        finally:
            self._is_finishing = False
        if self():
            raise self._error()

    def _announce(self) -> None:
        self._is_announced = True
        what = {
            "SIGTERM": f"running blocks have {FINISH_SECONDS:.0f} s",
            "Ctrl-C": "running blocks are finished first; press Ctrl-C again to stop now",
        }
        _log.info(f"{self._error()}: trainings are saved, {what.get(self.reason, 'running blocks are finished first')}")

    def _error(self) -> StoppedError:
        return StoppedError(self.reason, EXIT_INTERRUPTED if self._terminated_at is None else self.code)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        is_second = bool(self.reason)
        self.reason = self.reason or "Ctrl-C"
        if is_second or not self._is_finishing:
            raise self._error()

    def _end(self) -> None:
        _log.warning(f"{self._error()}: ended after {LAST_SECONDS:.0f} s, in the middle of what did not end")
        os._exit(self.code)

    def _on_termination(self, number: int, frame: FrameType | None) -> None:
        if self._terminated_at is not None:
            if time.monotonic() - self._terminated_at > _SAME_SIGNAL_SECONDS:
                os._exit(self.code)
            return
        self._terminated_at = time.monotonic()
        self.reason = "SIGTERM"
        last = threading.Timer(LAST_SECONDS, self._end)
        last.daemon = True
        last.start()
        if not self._is_finishing:
            raise self._error()


def _time() -> str:
    return now().isoformat(timespec="seconds") + "Z"
