"""Blocks of candidates through Ray actors: a bounded window, lost actors replaced, poison candidates isolated."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sweep.core.errors import last_line
from sweep.core.text import to_stderr
from sweep.evaluation.rows import failed_rows
from sweep.execution.cluster import LaunchError, size_of
from sweep.execution.stragglers import Watch
from sweep.execution.worker import Worker
from sweep.plan.work import Items
from sweep.storage.rows import Rows

if TYPE_CHECKING:
    from sweep.core.choice import Choice
    from sweep.core.dataset import Dataset
    from sweep.plan.planner import Plan
    from sweep.plan.pools import Pool
from dataclasses import dataclass, field

from sweep.plan.pools import Pool

_WINDOW = 2  # calls in flight per actor: the next block is there before the last one is done
_LOOK = 5.0  # seconds between two looks for nodes that came


class Launcher:
    """Carries blocks, and what `bring` has for their pools, to actors, and hands each whole block's rows to `sink`."""

    def __init__(
        self,
        plan: Plan,
        bring: Callable[[Pool], Sequence[object]],
        sink: Callable[[str, str, Rows, int], None],
        stopping: Callable[[], bool],
        say: Callable[[str], None] = to_stderr,
    ) -> None:
        self.plan, self.bring, self.sink, self.stopping, self.say = plan, bring, sink, stopping, say
        self.execution = plan.sweep.execution
        self.watch = Watch(self.execution.patience)
        self.queue: deque[Piece] = deque()
        self.open: dict[str, Open] = {}
        self.starting: dict[Any, Any] = {}  # reference of `ready` -> actor that has no place yet
        self.actors: dict[Any, list[Any]] = {}  # actor -> references of its calls, in order
        self.places: dict[Any, str] = {}  # actor -> its process and host
        self.flying: dict[Any, tuple[Any, Piece]] = {}  # reference -> (actor, piece)
        self.shared: dict[str, list[Any]] = {}  # pool -> references to what a worker takes, while it has open blocks
        self.left: Counter[str] = Counter()  # pool -> open blocks
        self.stillborn = 0  # actors that never came to be since the last one that did
        self.looked = -_LOOK

    def run(self, blocks: Mapping[str, Items], datasets: Mapping[Choice, Dataset]) -> None:
        """Evaluate all blocks; once `stopping` says so, those that run are finished and no more begun.

        What takes a worker far too long runs also where a worker has nothing else to do, and the first to end counts.
        Raises LaunchError where no worker can be started.
        """
        import ray

        for name, work in blocks.items():
            pool = self.plan.pool_of[work[0][0].pool_id]
            self.queue.append(Piece(name, pool, work))
            self.open[name] = Open(pool)
            self.left[pool.id] += 1
        arguments = (ray.put(dict(datasets)), self.plan.sweep.name, self.plan.sweep.metrics, self.execution)
        remote: Any = ray.remote(num_cpus=self.execution.threads, num_gpus=self.execution.gpus_per_worker)(Worker)
        self.new_actor = partial(remote.remote, *arguments)
        try:
            while self.open and (self._is_worth_waiting() or not self.stopping()):
                self._turn()
        finally:
            for actor in [*self.actors, *self.starting.values()]:
                ray.kill(actor)

    def _is_worth_waiting(self) -> bool:
        """Whether a worker is at something, and not for too long."""
        return any(not self.watch.is_late(actor) for actor, _ in self.flying.values())

    def _turn(self) -> None:
        """Hand out what there is room for, and take what has come back."""
        import ray

        self._look_for_stragglers()
        if not self.stopping():
            self._grow()
            self._fill()
        ready, _ = ray.wait([*self.starting, *self.flying], num_returns=1, timeout=1.0)
        for reference in ready:
            if reference in self.starting:
                self._welcome(reference)
            else:
                self._receive(reference)

    def _grow(self) -> None:
        """As many actors as are wanted; where that is left to the nodes, those that came later count, too."""
        import ray

        if time.monotonic() - self.looked < _LOOK:
            return
        self.looked = time.monotonic()
        wanted = min(size_of(self.execution, ray.nodes()), len(self.queue))
        for _ in range(wanted - len(self.actors) - len(self.starting)):
            self._start()

    def _start(self) -> None:
        """Ask for an actor; it is given work once it has its place."""
        actor = self.new_actor()
        self.starting[actor.ready.remote()] = actor

    def _welcome(self, reference: Any) -> None:
        """An actor that came to be, or did not."""
        import ray

        actor = self.starting.pop(reference)
        try:
            self.places[actor] = ray.get(reference)
        except ray.exceptions.RayError as error:
            self.stillborn += 1
            if self.stillborn > self.execution.retries and not self.actors:
                raise LaunchError(f"no worker can be started: {last_line(error)}", "sweep doctor tells more") from None
            self._start()
            return
        self.stillborn = 0
        self.actors[actor] = []

    def _fill(self) -> None:
        """Give pieces to actors that have room; a piece that failed before flies alone."""
        for actor, calls in self.actors.items():
            while self.queue and len(calls) < _WINDOW and not self.watch.is_late(actor):
                suspect = self.queue[0].attempts > 0
                if calls and (suspect or self.flying[calls[-1]][1].attempts > 0):
                    break
                self._push(actor, self.queue.popleft())

    def _push(self, actor: Any, piece: Piece) -> None:
        reference = actor.run.remote(piece.pool.id, self._share(piece.pool), piece.work)
        self.flying[reference] = (actor, piece)
        if not self.actors[actor]:
            self.watch.begin(actor)
        self.actors[actor].append(reference)

    def _look_for_stragglers(self) -> None:
        """Tell of workers that may hang; what they are at is for the others, too, once these have nothing to do."""
        for actor, while_ in self.watch.news():
            then = "its blocks run on idle workers, too, and begin anew if it is killed"
            self.say(f"{self.places[actor]} has been at one block for {while_} and may hang: {then}")
        if self.queue or all(self.actors.values()):
            return
        for actor, piece in self.flying.values():
            if not (piece.done or piece.twice) and self.watch.is_late(actor):
                piece.twice = True
                self.open[piece.block].attempts += 1
                self.queue.append(piece)

    def _share(self, pool: Pool) -> list[Any]:
        """The pool, its weights and batching in the object store, from the driver, so that they outlive any worker."""
        import ray

        if pool.id not in self.shared:
            self.shared[pool.id] = [ray.put(each) for each in (pool, *self.bring(pool))]
        return self.shared[pool.id]

    def _receive(self, reference: Any) -> None:
        """Take a result, or see to what went wrong."""
        import ray

        actor, piece = self.flying.pop(reference)
        self._settle(actor, reference)
        try:
            self._done(piece, ray.get(reference))
        except ray.exceptions.RayTaskError as error:
            self._failed(piece, self._retry, last_line(error))
        except ray.exceptions.OutOfMemoryError as error:
            self._replace(actor)
            cause = f"its worker was killed for want of memory: {str(error).splitlines()[0]}"
            self._failed(piece, self._squeeze, cause)
        except ray.exceptions.RayError as error:  # the worker, its node, or what it gave back is lost
            self._replace(actor)
            self._failed(piece, self._retry, f"its worker died: {last_line(error)}")

    def _settle(self, actor: Any, reference: Any) -> None:
        """A call of an actor has ended, and the next one begins."""
        if reference in (calls := self.actors.get(actor, [])):
            calls.remove(reference)
            self.watch.end(actor)
            if calls:
                self.watch.begin(actor)

    def _failed(self, piece: Piece, then: Callable[[Piece, str], None], cause: str) -> None:
        """See to a piece that went wrong, unless it is done already or another worker has it, too."""
        others = (*self.queue, *(other for _, other in self.flying.values()))
        if any(other is piece for other in others):
            piece.attempts += 1
            piece.twice = piece.attempts > self.execution.retries  # else a third worker may have it
        elif not piece.done:
            then(piece, cause)

    def _replace(self, actor: Any) -> None:
        import ray

        if self.actors.pop(actor, None) is not None:
            self.watch.forget(actor)
            ray.kill(actor)
            self._start()

    def _squeeze(self, piece: Piece, cause: str) -> None:
        """Try what took too much memory again in halves, then one by one; then it is the candidate's outcome."""
        if piece.squeezes == SQUEEZES:
            self._done(piece, failed_rows(piece.work, piece.pool, self.plan.sweep.name, cause))
            return
        self._divide(piece.squeezed())

    def _retry(self, piece: Piece, cause: str) -> None:
        """Try again what went wrong; beyond the retries, look in halves for the candidate that is to blame."""
        if piece.attempts < self.execution.retries:
            self.open[piece.block].attempts += 1
            self.queue.appendleft(replace(piece, attempts=piece.attempts + 1))
            return
        if len(piece.work) == 1:
            self._done(piece, failed_rows(piece.work, piece.pool, self.plan.sweep.name, cause))
            return
        self._divide(piece.parts((len(piece.work) + 1) // 2))

    def _divide(self, parts: list[Piece]) -> None:
        """Put the parts of a piece at the head of the queue."""
        block = self.open[parts[0].block]
        block.attempts += 1
        block.pieces += len(parts) - 1
        self.queue.extendleft(reversed(parts))

    def _done(self, piece: Piece, rows: Rows) -> None:
        """Add a piece's rows to its block, and hand over the block once it is whole; once for each piece."""
        if piece.done:
            return
        piece.done = True
        if piece.twice:
            self.queue = deque(other for other in self.queue if other is not piece)
        block = self.open[piece.block]
        block.rows.extend(rows)
        block.pieces -= 1
        if not block.pieces:
            del self.open[piece.block]
            self.left[piece.pool.id] -= 1
            if not self.left[piece.pool.id]:
                self.shared.pop(piece.pool.id, None)
            self.sink(piece.block, block.pool.id, block.rows, block.attempts + 1)


SQUEEZES = 2
"""How often what took too much memory is tried again in smaller pieces."""


@dataclass
class Piece:
    """A block, or a part of one.

    `attempts` counts how often its worker was lost, `squeezes` how often it was made smaller for want of memory.
    `twice` says that a second worker has it, too, for the first one may hang; `done` that its rows are there.
    """

    block: str
    pool: Pool
    work: Items
    attempts: int = 0
    squeezes: int = 0
    twice: bool = False
    done: bool = False

    def parts(self, size: int) -> list[Piece]:
        """Pieces of that size, each of which flies alone."""
        works = [self.work[start : start + size] for start in range(0, len(self.work), size)]
        return [replace(self, work=work, attempts=max(self.attempts, 1)) for work in works]

    def squeezed(self) -> list[Piece]:
        """Halves at first, then one by one."""
        size = 1 if self.squeezes else max(1, (len(self.work) + 1) // 2)
        return replace(self, squeezes=self.squeezes + 1).parts(size)


@dataclass
class Open:
    """A block of which pieces are out."""

    pool: Pool
    pieces: int = 1
    attempts: int = 0
    rows: Rows = field(default_factory=Rows)
