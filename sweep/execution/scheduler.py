"""Runs blocks on Ray actors: a bounded number of calls per actor, and a new actor for each that is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.core.errors import root_cause
from sweep.evaluation.rows import failed_rows
from sweep.execution.cluster import n_workers
from sweep.execution.demand import IdleWorkers, ResourceWait
from sweep.execution.ray_checks import LaunchError
from sweep.execution.refusals import Refusals, Resources, elsewhere
from sweep.execution.stragglers import StragglerDetector
from sweep.execution.work_queue import OpenBlock, WorkQueue, WorkUnit
from sweep.execution.worker import Worker
from sweep.plan.work import BlockWork
from sweep.storage.rows import BlockRows

if TYPE_CHECKING:
    from sweep.core.choice import PluginConfig
    from sweep.core.dataset import Dataset
    from sweep.execution.handshake import Handshake
    from sweep.plan.planner import Plan
    from sweep.plan.pools import Pool

_log = logging.getLogger(__name__)

_CALLS_PER_ACTOR = 2  # the next call is there before the last one ends
_SCALE_SECONDS = 5.0  # between two looks for nodes that joined


class BlockScheduler:
    """Runs blocks on actors and passes the rows of each finished block to `write`.

    `pool_payload` returns what a worker needs of a pool: its weights and batching. Once `stopping` returns true, each
    worker ends the block that it runs, unless `is_overdue` returns true before; all others are left for another run.
    """

    def __init__(
        self,
        plan: Plan,
        pool_payload: Callable[[Pool], Sequence[object]],
        write: Callable[[str, str, BlockRows, int], None],
        stopping: Callable[[], bool],
        handshake: Handshake,
        is_overdue: Callable[[], bool] = lambda: False,
    ) -> None:
        self.plan = plan
        self.pool_payload = pool_payload
        self.write = write
        self.stopping = stopping
        self.handshake = handshake
        self.is_overdue = is_overdue
        self.is_stopping = False
        self.execution = plan.sweep.execution
        self.needed = Resources(self.execution.threads, self.execution.gpus_per_worker)
        self.refusals = Refusals()
        self.wait = ResourceWait(self.needed, self.execution.wait_seconds)
        self.idle = IdleWorkers()
        self.stragglers = StragglerDetector(self.execution.straggler_seconds)
        self.queue: WorkQueue
        self.actor_class: Any
        self.arguments: tuple[Any, ...]
        self.starting: dict[Any, Any] = {}  # reference of `ready` -> actor
        self.calls: dict[Any, list[Any]] = {}  # actor -> references of its calls, in order
        self.actor_labels: dict[Any, str] = {}  # actor -> its process and host
        self.in_flight: dict[Any, tuple[Any, WorkUnit]] = {}  # reference of a call -> (actor, unit)
        self.pool_references: dict[str, list[Any]] = {}  # pool_id -> its payload, while it has open blocks
        self.failed_starts = 0  # in a row
        self.last_scaled_at = -_SCALE_SECONDS

    def run(self, blocks: Mapping[str, BlockWork], datasets: Mapping[PluginConfig, Dataset]) -> None:
        """Evaluate all blocks, or those that run when `stopping` begins to return true.

        A unit whose worker may hang also runs on an idle worker; the first result counts. Raises LaunchError where no
        worker can be started, or none has room for too long.
        """
        import ray

        self.queue = WorkQueue(blocks, self.execution.retries, self._failed_rows, self._on_finished)
        sweep = self.plan.sweep
        self.arguments = (ray.put(dict(datasets)), sweep.name, sweep.metrics, self.execution, self.handshake)
        self.actor_class = ray.remote(num_cpus=self.needed.cpus, num_gpus=self.needed.gpus)(Worker)
        try:
            while self.queue.blocks and self._has_to_wait():
                self._step()
        finally:
            for actor in [*self.calls, *self.starting.values()]:
                ray.kill(actor)
            for handles in (self.calls, self.starting, self.in_flight, self.actor_labels, self.pool_references):
                handles.clear()  # freed here, and not while Ray ends

    def _has_to_wait(self) -> bool:
        """Whether there is something to wait for; while stopping, the calls whose workers do not seem to hang."""
        if not self.stopping():
            return True
        self.is_stopping = True
        for calls in self.calls.values():
            for reference in calls[1:]:  # they wait for the first one
                del self.in_flight[reference]
            del calls[1:]
        return not self.is_overdue() and any(not self.stragglers.is_late(actor) for actor, _ in self.in_flight.values())

    def _step(self) -> None:
        """Submit what there is room for, and take in what has ended within a second."""
        import ray

        self._run_late_units_again()
        if not self.is_stopping:
            self._scale_up()
            self._submit_all()
            self._release_idle()
            self.wait.look(ray.nodes, is_waiting=not self.calls)
            self.wait.raise_if_over()
        ended, _ = ray.wait([*self.starting, *self.in_flight], num_returns=1, timeout=1.0)
        for reference in ended:
            if reference in self.starting:
                self._on_started(reference)
            else:
                self._on_call_end(reference)

    def _scale_up(self) -> None:
        """Start as many actors as are wanted; with `workers: auto` their number grows as nodes join.

        Raises LaunchError if nothing runs and every node that could run a worker was refused.
        """
        import ray

        if time.monotonic() - self.last_scaled_at < _SCALE_SECONDS:
            return
        self.last_scaled_at = time.monotonic()
        nodes = ray.nodes()
        if not self.calls:
            self.refusals.check_room(nodes, self.needed)
        wanted = min(n_workers(self.execution, self.refusals.others(nodes)), len(self.queue))
        for _ in range(wanted - len(self.calls) - len(self.starting)):
            self._start_actor()

    def _release_idle(self) -> None:
        """Once no unit is queued, give back workers that wait for a node, and those that have been idle for a while."""
        import ray

        if self.queue:
            return
        if self.calls:
            for actor in self.starting.values():
                ray.kill(actor)
            self.starting.clear()
        for actor in self.idle.surplus(self.calls):
            ray.kill(actor)
            self.stragglers.drop(actor)
            del self.calls[actor]

    def _start_actor(self) -> None:
        actor = self.actor_class.options(**elsewhere(self.refusals.nodes)).remote(*self.arguments)
        self.starting[actor.ready.remote()] = actor

    def _on_started(self, reference: Any) -> None:
        """An actor is ready, or could not be started: then try another one. One on a node that differs is ended."""
        import ray

        actor = self.starting.pop(reference)
        try:
            found = ray.get(reference)
        except ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.failed_starts > self.execution.retries and not self.calls:
                cause = f"no worker can be started: {root_cause(error)}"
                raise LaunchError(cause, "`sweep doctor` checks this machine") from None
            self._start_actor()
            return
        self.failed_starts = 0
        if self.refusals.take(found):
            ray.kill(actor)
            return
        self.actor_labels[actor] = found.label
        self.calls[actor] = []

    def _submit_all(self) -> None:
        """Submit units to actors that have room. A suspect unit is the only call of its actor."""
        for actor, calls in self.calls.items():
            while self.queue and len(calls) < _CALLS_PER_ACTOR and not self.stragglers.is_late(actor):
                if calls and (self.queue.peek().is_suspect or self.in_flight[calls[-1]][1].is_suspect):
                    break
                self._submit(actor, self.queue.take())

    def _submit(self, actor: Any, unit: WorkUnit) -> None:
        pool_id = unit.work.pool_id
        reference = actor.run.remote(pool_id, self._pool_references(pool_id), unit.work)
        self.in_flight[reference] = (actor, unit)
        if not self.calls[actor]:
            self.stragglers.start(actor, self._kind(unit))
        self.calls[actor].append(reference)

    def _run_late_units_again(self) -> None:
        """Warn of workers that may hang; once others are idle, these run their units as well."""
        for actor, duration in self.stragglers.new_stragglers():
            then = "idle workers run its blocks as well; if you kill it, they start again elsewhere"
            _log.warning(f"{self.actor_labels[actor]} has worked on one block for {duration} and may hang: {then}")
        if self.queue or all(self.calls.values()):
            return
        for actor, unit in self.in_flight.values():
            if self.stragglers.is_late(actor):
                self.queue.speculate(unit)

    def _pool_references(self, pool_id: str) -> list[Any]:
        """References to a pool and its payload. The driver owns them, so that they outlive any worker."""
        import ray

        if pool_id not in self.pool_references:
            pool = self.plan.pool_of[pool_id]
            self.pool_references[pool_id] = [ray.put(each) for each in (pool, *self.pool_payload(pool))]
        return self.pool_references[pool_id]

    def _on_call_end(self, reference: Any) -> None:
        """Take in the rows of a call, or its error; a worker that died is replaced."""
        import ray

        actor, unit = self.in_flight.pop(reference)
        self._remove_call(actor, reference)
        try:
            self.queue.on_result(unit, ray.get(reference))
        except ray.exceptions.RayTaskError as error:
            self.queue.on_error(unit, root_cause(error))
        except ray.exceptions.OutOfMemoryError as error:
            self._replace(actor)
            cause = f"its worker ran out of memory and was killed: {str(error).splitlines()[0]}"
            self.queue.on_out_of_memory(unit, cause)
        except ray.exceptions.RayError as error:  # the worker, its node, or the rows are lost
            self._replace(actor)
            if not self.is_stopping:  # SIGTERM may have been sent to the workers as well
                self.queue.on_error(unit, f"its worker died: {root_cause(error)}")

    def _remove_call(self, actor: Any, reference: Any) -> None:
        """Note that a call of an actor has ended and its next one begins."""
        if reference in (calls := self.calls.get(actor, [])):
            calls.remove(reference)
            self.stragglers.finish(actor)
            if calls:
                self.stragglers.start(actor, self._kind(self.in_flight[calls[0]][1]))

    def _kind(self, unit: WorkUnit) -> tuple[str, str]:
        """Which units take about as long: those of one type of work and one population."""
        return type(unit.work).__name__, self.plan.pool_of[unit.work.pool_id].population.name

    def _replace(self, actor: Any) -> None:
        """Start an actor in the place of one that is lost."""
        import ray

        if self.calls.pop(actor, None) is not None:
            self.stragglers.drop(actor)
            ray.kill(actor)
            if not self.is_stopping:
                self._start_actor()

    def _failed_rows(self, work: BlockWork, cause: str) -> BlockRows:
        return failed_rows(work, self.plan.pool_of[work.pool_id], self.plan.sweep.name, cause)

    def _on_finished(self, block: OpenBlock) -> None:
        """Hand over a finished block, and free its pool's payload where this was the last block."""
        if not self.queue.has_open_block(block.pool_id):
            self.pool_references.pop(block.pool_id, None)
        self.write(block.name, block.pool_id, block.rows, block.attempts)
