"""How trainings on any node are asked to stop, and when their experiment ends: once they have saved their state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

SAVE_SECONDS = 15.0
"""How long running trainings may take for their last step and for writing their state."""
_NAMESPACE = b"merge-sweep"
_LOOK_SECONDS = 0.5  # between two looks of a training at whether it has to stop
_ANSWER_SECONDS = 2.0


class TrainingStop:
    """Which trials run, and whether an experiment that was asked to stop may end.

    `announce` is called at the first look after the request: it asks the trials to save their state and end.
    """

    def __init__(self, stopping: Callable[[], bool], announce: Callable[[], None]) -> None:
        self.stopping = stopping
        self.announce = announce
        self.running: set[str] = set()
        self.awaited: set[str] | None = None
        self.asked_at = 0.0

    def start(self, trial: str) -> None:
        """Note that a trial runs."""
        self.running.add(trial)

    def finish(self, trial: str) -> None:
        """Note that a trial has ended."""
        self.running.discard(trial)

    def is_over(self) -> bool:
        """Whether the trials that ran at the request have ended, or had time to."""
        if not self.stopping():
            return False
        if self.awaited is None:
            self.awaited = set(self.running)
            self.asked_at = time.monotonic()
            self.announce()
        return not self.awaited & self.running or time.monotonic() - self.asked_at > SAVE_SECONDS


def ask_to_stop(experiment: str) -> None:
    """Ask the trainings of an experiment to stop, in the key-value store of the cluster, which every node reads."""
    from ray.experimental import internal_kv

    _call_cluster(lambda: internal_kv._internal_kv_put(experiment.encode(), b"stop", namespace=_NAMESPACE))


def withdraw_stop(experiment: str) -> None:
    """Remove the request of `ask_to_stop` from a cluster that outlives the run."""
    from ray.experimental import internal_kv

    _call_cluster(lambda: internal_kv._internal_kv_del(experiment.encode(), namespace=_NAMESPACE))


def _call_cluster(call: Callable[[], object]) -> None:
    """Make a call that may fail, and wait for seconds at most: a cluster that was stopped, too, does not answer."""

    def attempt() -> None:
        with suppress(Exception):
            call()

    thread = threading.Thread(target=attempt, name="stop-request", daemon=True)
    thread.start()
    thread.join(_ANSWER_SECONDS)


def _is_asked_to_stop(experiment: str) -> bool:
    """Whether the driver asked the trainings of an experiment to stop; false while the cluster does not answer."""
    from ray.experimental import internal_kv

    with suppress(Exception):
        return internal_kv._internal_kv_get(experiment.encode(), namespace=_NAMESPACE) is not None
    return False


@contextmanager
def stop_watch(experiment: str) -> Iterator[Callable[[], bool]]:
    """Look for a request to stop in a thread, so that no step of a training waits for the cluster."""
    is_stopped = threading.Event()
    is_ended = threading.Event()
    if _is_asked_to_stop(experiment):
        is_stopped.set()

    def watch() -> None:
        while not (is_stopped.is_set() or is_ended.wait(_LOOK_SECONDS)):
            if _is_asked_to_stop(experiment):
                is_stopped.set()

    thread = threading.Thread(target=watch, name="stop-watch", daemon=True)
    thread.start()
    try:
        yield is_stopped.is_set
    finally:
        is_ended.set()
