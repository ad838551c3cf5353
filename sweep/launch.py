"""Blocks of candidates through Ray actors: a bounded window, lost actors replaced, poison candidates isolated."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sweep.plan import Work
from sweep.task import Rows, failed_rows

if TYPE_CHECKING:
    from sweep.data import Dataset
    from sweep.grid import Choice
    from sweep.outputs import PoolWeights
    from sweep.plan import Plan, Pool
    from sweep.spec import Execution

_WINDOW = 2  # calls in flight per actor: the next block is there before the last one is done


class Worker:
    """What an actor does: it holds the bench of one pool at a time."""

    def __init__(
        self, datasets: Mapping[Choice, Dataset], sweep: str, metrics: tuple[str, ...], execution: Execution
    ) -> None:
        import torch

        torch.set_num_threads(execution.threads)
        self.datasets, self.sweep, self.metrics, self.execution = datasets, sweep, metrics, execution
        self.device = "cuda" if execution.gpus_per_worker and torch.cuda.is_available() else "cpu"
        self.evaluator: Any = None

    def run(self, pool: Pool, weights: Sequence[Any], work: Work) -> Rows:
        """Evaluate a piece of a block. The weights come as a reference in a list, which Ray leaves alone."""
        import ray

        from sweep.pools import bench_of
        from sweep.provenance import worker
        from sweep.task import Evaluator

        if self.evaluator is None or self.evaluator.pool.id != pool.id:
            dataset = self.datasets[pool.population.dataset]
            bench = bench_of(pool, ray.get(weights[0]), dataset, self.device, self.execution.batch)
            self.evaluator = Evaluator(bench, pool, self.sweep, self.metrics)
        rows: Rows = self.evaluator.block(work)
        rows.cost |= worker()
        return rows


@dataclass
class Piece:
    """A block, or a part of one that is looked at more closely; `attempts` counts how often its worker was lost."""

    block: str
    pool: Pool
    work: Work
    attempts: int = 0


@dataclass
class _Open:
    """A block of which pieces are out."""

    pool: Pool
    pieces: int = 1
    attempts: int = 0
    rows: Rows = field(default_factory=Rows)


class Launcher:
    """Carries blocks to actors and hands each whole block's rows to `sink`."""

    def __init__(
        self, plan: Plan, weights: Callable[[Pool], PoolWeights], sink: Callable[[str, Pool, Rows, int], None]
    ) -> None:
        self.plan, self.weights, self.sink = plan, weights, sink
        self.execution = plan.sweep.execution
        self.queue: deque[Piece] = deque()
        self.open: dict[str, _Open] = {}
        self.actors: dict[Any, list[Any]] = {}  # actor -> references of its calls, in order
        self.flying: dict[Any, tuple[Any, Piece]] = {}  # reference -> (actor, piece)
        self.shared: dict[str, Any] = {}  # pool -> reference to its weights, while it has open blocks
        self.new_actor: Callable[[], Any]
        self.left: Counter[str] = Counter()  # pool -> open blocks

    def run(self, blocks: Mapping[str, Work], datasets: Mapping[Choice, Dataset], stopping: Callable[[], bool]) -> None:
        """Evaluate all blocks; once `stopping` says so, those that run are finished and no more begun."""
        import ray

        for name, work in blocks.items():
            pool = self.plan.pool_of[work[0][0].pool_id]
            self.queue.append(Piece(name, pool, work))
            self.open[name] = _Open(pool)
            self.left[pool.id] += 1
        arguments = (ray.put(dict(datasets)), self.plan.sweep.name, self.plan.sweep.metrics, self.execution)
        execution = self.execution
        remote: Any = ray.remote(num_cpus=execution.threads, num_gpus=execution.gpus_per_worker)(Worker)
        self.new_actor = partial(remote.remote, *arguments)
        for _ in range(min(self._size(ray.cluster_resources()), len(self.queue))):
            self.actors[self.new_actor()] = []
        while self.flying or (self.queue and not stopping()):
            if not stopping():
                self._fill()
            ready, _ = ray.wait(list(self.flying), num_returns=1, timeout=1.0)
            for reference in ready:
                self._receive(reference)
        for actor in self.actors:
            ray.kill(actor)

    def _size(self, resources: Mapping[str, float]) -> int:
        """How many actors fit the cluster."""
        if self.execution.workers != "auto":
            return self.execution.workers
        by_cpu = int(resources.get("CPU", 1) // self.execution.threads)
        gpus = self.execution.gpus_per_worker
        return max(1, min(by_cpu, int(resources.get("GPU", 0) / gpus) if gpus else by_cpu))

    def _fill(self) -> None:
        """Give pieces to actors that have room; a piece that lost a worker before flies alone."""
        for actor, calls in self.actors.items():
            while self.queue and len(calls) < _WINDOW:
                suspect = self.queue[0].attempts > 0
                if calls and (suspect or self.flying[calls[-1]][1].attempts > 0):
                    break
                self._push(actor, self.queue.popleft())

    def _push(self, actor: Any, piece: Piece) -> None:
        reference = actor.run.remote(piece.pool, [self._share(piece.pool)], piece.work)
        self.flying[reference] = (actor, piece)
        self.actors[actor].append(reference)

    def _share(self, pool: Pool) -> Any:
        """The pool's weights in the object store, from the driver, so that they outlive any worker."""
        import ray

        if pool.id not in self.shared:
            self.shared[pool.id] = ray.put(self.weights(pool))
        return self.shared[pool.id]

    def _receive(self, reference: Any) -> None:
        """Take a result, or see to what went wrong."""
        import ray

        actor, piece = self.flying.pop(reference)
        if actor in self.actors:
            self.actors[actor].remove(reference)
        try:
            self._done(piece, ray.get(reference))
        except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
            if self.actors.pop(actor, None) is not None:
                self.actors[self.new_actor()] = []
            self._retry(piece, f"its worker died: {_reason(error)}")
        except ray.exceptions.RayTaskError as error:
            self._halve(piece, _reason(error))

    def _retry(self, piece: Piece, cause: str) -> None:
        """Try again what lost its worker; beyond the retries, look for the candidate that is to blame."""
        piece.attempts += 1
        self.open[piece.block].attempts += 1
        if piece.attempts > self.execution.retries:
            self._halve(piece, cause)
        else:
            self.queue.appendleft(piece)

    def _halve(self, piece: Piece, cause: str) -> None:
        """Two halves of a piece that fails as a whole; a single candidate becomes a failed row."""
        if len(piece.work) == 1:
            self._done(piece, failed_rows(piece.work, piece.pool, self.plan.sweep.name, cause))
            return
        middle = len(piece.work) // 2
        self.open[piece.block].pieces += 1
        for half in (piece.work[middle:], piece.work[:middle]):
            self.queue.appendleft(Piece(piece.block, piece.pool, half, piece.attempts))

    def _done(self, piece: Piece, rows: Rows) -> None:
        """Add a piece's rows to its block, and hand over the block once it is whole."""
        block = self.open[piece.block]
        block.rows.extend(rows)
        block.pieces -= 1
        if not block.pieces:
            del self.open[piece.block]
            self.left[piece.pool.id] -= 1
            if not self.left[piece.pool.id]:
                self.shared.pop(piece.pool.id, None)
            self.sink(piece.block, block.pool, block.rows, block.attempts + 1)


def _reason(error: Exception) -> str:
    """The last line of what Ray says, which is the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
