"""What an evaluator's process does, on whatever node it has its place."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.task import Items, Rows

if TYPE_CHECKING:
    from sweep.data import Dataset
    from sweep.grid import Choice
    from sweep.spec import Execution


class Worker:
    """What an actor does: it holds the bench of one pool at a time."""

    def __init__(
        self, datasets: Mapping[Choice, Dataset], sweep: str, metrics: tuple[str, ...], execution: Execution
    ) -> None:
        from sweep.models import steady

        self.datasets, self.sweep, self.metrics, self.execution = datasets, sweep, metrics, execution
        self.device = steady(execution.threads, execution.gpus_per_worker)
        self.evaluator: Any = None

    def ready(self) -> str:
        """Who it is, once the actor has its place and its libraries."""
        return f"process {os.getpid()} on {socket.gethostname()}"

    def run(self, pool_id: str, shared: Sequence[Any], work: Items) -> Rows:
        """Evaluate a piece of a block. Pool and weights come as references in a list, which Ray leaves alone."""
        import ray
        import torch

        from sweep.pools import bench_of
        from sweep.provenance import worker
        from sweep.task import Evaluator

        if self.evaluator is None or self.evaluator.pool.id != pool_id:
            self.evaluator = None  # let go of one pool before the next comes
            pool, weights = ray.get(list(shared))
            dataset = self.datasets[pool.population.dataset]
            bench = bench_of(pool, weights, dataset, str(self.device), self.execution.batch)
            self.evaluator = Evaluator(bench, pool, self.sweep, self.metrics, self.execution.probabilities)
        try:
            rows: Rows = self.evaluator.block(work)
        except torch.AcceleratorError:
            os._exit(1)  # the device is of no use to this process any more; another one finds who is to blame
        rows.cost |= worker()
        return rows
