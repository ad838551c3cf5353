"""Blocks of candidates through Ray actors: a bounded window, lost actors replaced, poison candidates isolated."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sweep.core.errors import root_cause
from sweep.evaluation.rows import failed_rows
from sweep.execution.cluster import LaunchError, n_workers
from sweep.execution.stragglers import StragglerDetector
from sweep.execution.worker import Worker
from sweep.plan.work import BlockWork
from sweep.storage.rows import BlockRows

if TYPE_CHECKING:
    from sweep.core.choice import PluginConfig
    from sweep.core.dataset import Dataset
    from sweep.plan.planner import Plan
    from sweep.plan.pools import Pool
from dataclasses import dataclass, field

from sweep.plan.pools import Pool

_log = logging.getLogger(__name__)

_WINDOW = 2  # calls in flight per actor: the next block is there before the last one is done
_LOOK = 5.0  # seconds between two looks for nodes that came


class BlockScheduler:
    """Carries blocks, and what `bring` has for their pools, to actors, and hands each whole block's rows to `sink`."""

    def __init__(
        self,
        plan: Plan,
        bring: Callable[[Pool], Sequence[object]],
        sink: Callable[[str, str, BlockRows, int], None],
        stopping: Callable[[], bool],
    ) -> None:
        self.plan = plan
        self.pool_payload = bring
        self.sink = sink
        self.stopping = stopping
        self.execution = plan.sweep.execution
        self.watch = StragglerDetector(self.execution.straggler_seconds)
        self.queue: deque[WorkUnit] = deque()
        self.open: dict[str, OpenBlock] = {}
        self.pending_actors: dict[Any, Any] = {}  # reference of `ready` -> actor that has no place yet
        self.actors: dict[Any, list[Any]] = {}  # actor -> references of its calls, in order
        self.actor_labels: dict[Any, str] = {}  # actor -> its process and host
        self.in_flight: dict[Any, tuple[Any, WorkUnit]] = {}  # reference -> (actor, piece)
        self.object_refs: dict[
            str, list[Any]
        ] = {}  # pool -> references to what a worker takes, while it has open blocks
        self.open_blocks: Counter[str] = Counter()  # pool -> open blocks
        self.failed_starts = 0  # actors that never came to be since the last one that did
        self.last_scaled_at = -_LOOK

    def run(self, blocks: Mapping[str, BlockWork], datasets: Mapping[PluginConfig, Dataset]) -> None:
        """Evaluate all blocks; once `stopping` says so, those that run are finished and no more begun.

        What takes a worker far too long runs also where a worker has nothing else to do, and the first to end counts.
        Raises LaunchError where no worker can be started.
        """
        import ray

        for name, work in blocks.items():
            pool = self.plan.pool_of[work.pool_id]
            self.queue.append(WorkUnit(name, pool, work))
            self.open[name] = OpenBlock(pool)
            self.open_blocks[pool.id] += 1
        arguments = (ray.put(dict(datasets)), self.plan.sweep.name, self.plan.sweep.metrics, self.execution)
        remote: Any = ray.remote(num_cpus=self.execution.threads, num_gpus=self.execution.gpus_per_worker)(Worker)
        self.new_actor = partial(remote.remote, *arguments)
        try:
            while self.open and (self._is_worth_waiting() or not self.stopping()):
                self._step()
        finally:
            for actor in [*self.actors, *self.pending_actors.values()]:
                ray.kill(actor)

    def _is_worth_waiting(self) -> bool:
        """Whether a worker is at something, and not for too long."""
        return any(not self.watch.is_late(actor) for actor, _ in self.in_flight.values())

    def _step(self) -> None:
        """Hand out what there is room for, and take what has come back."""
        import ray

        self._look_for_stragglers()
        if not self.stopping():
            self._scale_up()
            self._submit_all()
        ready, _ = ray.wait([*self.pending_actors, *self.in_flight], num_returns=1, timeout=1.0)
        for reference in ready:
            if reference in self.pending_actors:
                self._on_ready(reference)
            else:
                self._on_result(reference)

    def _scale_up(self) -> None:
        """As many actors as are wanted; where that is left to the nodes, those that came later count, too."""
        import ray

        if time.monotonic() - self.last_scaled_at < _LOOK:
            return
        self.last_scaled_at = time.monotonic()
        wanted = min(n_workers(self.execution, ray.nodes()), len(self.queue))
        for _ in range(wanted - len(self.actors) - len(self.pending_actors)):
            self._start()

    def _start(self) -> None:
        """Ask for an actor; it is given work once it has its place."""
        actor = self.new_actor()
        self.pending_actors[actor.ready.remote()] = actor

    def _on_ready(self, reference: Any) -> None:
        """An actor that came to be, or did not."""
        import ray

        actor = self.pending_actors.pop(reference)
        try:
            self.actor_labels[actor] = ray.get(reference)
        except ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.failed_starts > self.execution.retries and not self.actors:
                raise LaunchError(f"no worker can be started: {root_cause(error)}", "sweep doctor tells more") from None
            self._start()
            return
        self.failed_starts = 0
        self.actors[actor] = []

    def _submit_all(self) -> None:
        """Give pieces to actors that have room; a piece that failed before flies alone."""
        for actor, calls in self.actors.items():
            while self.queue and len(calls) < _WINDOW and not self.watch.is_late(actor):
                suspect = self.queue[0].attempts > 0
                if calls and (suspect or self.in_flight[calls[-1]][1].attempts > 0):
                    break
                self._submit(actor, self.queue.popleft())

    def _submit(self, actor: Any, piece: WorkUnit) -> None:
        reference = actor.run.remote(piece.pool.id, self._share(piece.pool), piece.work)
        self.in_flight[reference] = (actor, piece)
        if not self.actors[actor]:
            self.watch.start(actor)
        self.actors[actor].append(reference)

    def _look_for_stragglers(self) -> None:
        """Tell of workers that may hang; what they are at is for the others, too, once these have nothing to do."""
        for actor, while_ in self.watch.new_stragglers():
            then = "idle workers run its blocks as well; if you kill it, they start again elsewhere"
            _log.warning(f"{self.actor_labels[actor]} has worked on one block for {while_} and may hang: {then}")
        if self.queue or all(self.actors.values()):
            return
        for actor, piece in self.in_flight.values():
            if not (piece.done or piece.speculative) and self.watch.is_late(actor):
                piece.speculative = True
                self.open[piece.block].attempts += 1
                self.queue.append(piece)

    def _share(self, pool: Pool) -> list[Any]:
        """The pool, its weights and batching in the object store, from the driver, so that they outlive any worker."""
        import ray

        if pool.id not in self.object_refs:
            self.object_refs[pool.id] = [ray.put(each) for each in (pool, *self.pool_payload(pool))]
        return self.object_refs[pool.id]

    def _on_result(self, reference: Any) -> None:
        """Take a result, or see to what went wrong."""
        import ray

        actor, piece = self.in_flight.pop(reference)
        self._on_call_end(actor, reference)
        try:
            self._done(piece, ray.get(reference))
        except ray.exceptions.RayTaskError as error:
            self._on_failure(piece, self._retry, root_cause(error))
        except ray.exceptions.OutOfMemoryError as error:
            self._replace(actor)
            cause = f"its worker ran out of memory and was killed: {str(error).splitlines()[0]}"
            self._on_failure(piece, self._retry_smaller, cause)
        except ray.exceptions.RayError as error:  # the worker, its node, or what it gave back is lost
            self._replace(actor)
            self._on_failure(piece, self._retry, f"its worker died: {root_cause(error)}")

    def _on_call_end(self, actor: Any, reference: Any) -> None:
        """A call of an actor has ended, and the next one begins."""
        if reference in (calls := self.actors.get(actor, [])):
            calls.remove(reference)
            self.watch.finish(actor)
            if calls:
                self.watch.start(actor)

    def _on_failure(self, piece: WorkUnit, then: Callable[[WorkUnit, str], None], cause: str) -> None:
        """See to a piece that went wrong, unless it is done already or another worker has it, too."""
        others = (*self.queue, *(other for _, other in self.in_flight.values()))
        if any(other is piece for other in others):
            piece.attempts += 1
            piece.speculative = piece.attempts > self.execution.retries  # else a third worker may have it
        elif not piece.done:
            then(piece, cause)

    def _replace(self, actor: Any) -> None:
        import ray

        if self.actors.pop(actor, None) is not None:
            self.watch.drop(actor)
            ray.kill(actor)
            self._start()

    def _retry_smaller(self, piece: WorkUnit, cause: str) -> None:
        """Try what took too much memory again in halves, then one by one; then it is the candidate's outcome."""
        if piece.oom_splits == MAX_OOM_SPLITS:
            self._done(piece, failed_rows(piece.work, piece.pool, self.plan.sweep.name, cause))
            return
        self._split(piece.split_for_memory())

    def _retry(self, piece: WorkUnit, cause: str) -> None:
        """Try again what went wrong; beyond the retries, look in halves for the candidate that is to blame."""
        if piece.attempts < self.execution.retries:
            self.open[piece.block].attempts += 1
            self.queue.appendleft(replace(piece, attempts=piece.attempts + 1))
            return
        if len(piece.work) == 1:
            self._done(piece, failed_rows(piece.work, piece.pool, self.plan.sweep.name, cause))
            return
        self._split(piece.split((len(piece.work) + 1) // 2))

    def _split(self, parts: list[WorkUnit]) -> None:
        """Put the parts of a piece at the head of the queue."""
        block = self.open[parts[0].block]
        block.attempts += 1
        block.pieces += len(parts) - 1
        self.queue.extendleft(reversed(parts))

    def _done(self, piece: WorkUnit, rows: BlockRows) -> None:
        """Add a piece's rows to its block, and hand over the block once it is whole; once for each piece."""
        if piece.done:
            return
        piece.done = True
        if piece.speculative:
            self.queue = deque(other for other in self.queue if other is not piece)
        block = self.open[piece.block]
        block.rows.extend(rows)
        block.pieces -= 1
        if not block.pieces:
            del self.open[piece.block]
            self.open_blocks[piece.pool.id] -= 1
            if not self.open_blocks[piece.pool.id]:
                self.object_refs.pop(piece.pool.id, None)
            self.sink(piece.block, block.pool.id, block.rows, block.attempts + 1)


MAX_OOM_SPLITS = 2
"""How often what took too much memory is tried again in smaller pieces."""


@dataclass
class WorkUnit:
    """A block, or a part of one.

    `attempts` counts how often its worker died, `oom_splits` how often it was split because memory ran out.
    `twice` says that a second worker has it, too, for the first one may hang; `done` that its rows are there.
    """

    block: str
    pool: Pool
    work: BlockWork
    attempts: int = 0
    oom_splits: int = 0
    speculative: bool = False
    done: bool = False

    def split(self, size: int) -> list[WorkUnit]:
        """Pieces of that size, each of which flies alone."""
        works = [self.work[start : start + size] for start in range(0, len(self.work), size)]
        return [replace(self, work=work, attempts=max(self.attempts, 1)) for work in works]

    def split_for_memory(self) -> list[WorkUnit]:
        """Halves at first, then one by one."""
        size = 1 if self.oom_splits else max(1, (len(self.work) + 1) // 2)
        return replace(self, oom_splits=self.oom_splits + 1).split(size)


@dataclass
class OpenBlock:
    """A block of which pieces are out."""

    pool: Pool
    pieces: int = 1
    attempts: int = 0
    rows: BlockRows = field(default_factory=BlockRows)
